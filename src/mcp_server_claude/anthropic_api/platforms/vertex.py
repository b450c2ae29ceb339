"""Google Cloud (Vertex AI)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from mcp_server_claude.anthropic_api.credentials import (
    Credential,
    configured_base_url,
    require_package,
    required_name,
)
from mcp_server_claude.anthropic_api.platforms.platform import (
    FILE_SOURCE_FEATURES,
    SNAPSHOT_DATE,
    CloudPlatform,
    Feature,
)

if TYPE_CHECKING:
    from mcp_server_claude.settings import PlatformName, Settings

CREDENTIALS_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"


class Vertex(CloudPlatform):
    """Google Cloud (Vertex AI), with Google's application default credentials."""

    name: ClassVar[PlatformName] = "vertex"
    title = "Google Cloud (Vertex AI)"
    client_class = "AsyncAnthropicVertex"
    extra = "vertex"
    how_to_authenticate = "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS."
    unsupported: ClassVar[frozenset[Feature]] = frozenset(
        (*FILE_SOURCE_FEATURES, "models", "batch", "web_fetch", "code_execution", "programmatic", "thinking_count")
    )
    max_request_bytes = 30_000_000
    max_image_bytes = 5_000_000

    def find_credential(self, settings: Settings) -> Credential:
        """The region, the project, and the name of the place where Google's library finds the credentials.

        Raises:
            ConfigurationError: google-auth, a region or a project is missing.
        """
        require_package("google.auth", self.title, self.extra)
        region = required_name(self.title, "region", "CLOUD_ML_REGION")
        project = required_name(self.title, "project", "ANTHROPIC_VERTEX_PROJECT_ID", "GOOGLE_CLOUD_PROJECT")
        is_named = bool(os.environ.get(CREDENTIALS_VARIABLE))
        return Credential(
            source=CREDENTIALS_VARIABLE if is_named else "Google's application default credentials",
            base_url=configured_base_url(settings, "ANTHROPIC_VERTEX_BASE_URL", f"https://{_host(region)}/v1"),
            platform_name=self.name,
            options={"region": region, "project_id": project},
        )

    def inference_region(self, credential: Credential) -> str:
        """The region, or the multi-region `us` or `eu`. The endpoint `global` costs no more
        (https://platform.claude.com/docs/en/about-claude/pricing, as documented by November 2026).
        """
        region = credential.options["region"]
        return "" if region == "global" else region

    def platform_model_id(self, model_id: str, region: str = "") -> str:
        """The id with its date behind an `@`."""
        del region
        return SNAPSHOT_DATE.sub(r"@\1", model_id)


def _host(region: str) -> str:
    match region:
        case "global":
            return "aiplatform.googleapis.com"
        case "us" | "eu":
            return f"aiplatform.{region}.rep.googleapis.com"
        case _:
            return f"{region}-aiplatform.googleapis.com"
