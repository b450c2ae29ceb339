"""Claude Platform on AWS: Anthropic's own service with AWS's authentication and billing; every feature is there."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import SecretStr

from mcp_server_claude.anthropic_api.credentials import (
    ADDRESS_PART,
    API_VERSION,
    Credential,
    configured_base_url,
    first_key,
    is_installed,
    require_package,
    required_name,
    validate_key,
)
from mcp_server_claude.anthropic_api.platforms.platform import FILES_BETA, CloudPlatform

if TYPE_CHECKING:
    from mcp_server_claude.settings import PlatformName, Settings

AWS_CREDENTIALS = "credentials of AWS (AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a role)"
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


class AmazonPlatform(CloudPlatform):
    """A platform with AWS's credentials and regions.

    `url_template` is the address as the SDK derives it (a test holds both equal), `url_variable` and `key_variables`
    the environment variables that the SDK reads, in its order.
    """

    url_template: ClassVar[str]
    url_variable: ClassVar[str]
    key_variables: ClassVar[tuple[str, ...]]
    needs_boto3: ClassVar[bool] = False
    """True if boto3 is needed even with a key, because botocore decodes the stream."""

    def find_credential(self, settings: Settings) -> Credential:
        """The credential from the platform's key variables, else from AWS's own chain.

        Raises:
            ConfigurationError: boto3, a region or a workspace is missing, or the key cannot be sent.
        """
        source, key = first_key(*self.key_variables)
        if self.needs_boto3 or not key:  # botocore signs requests that carry no key
            require_package("boto3", self.title, self.extra)
        region = self._find_region()
        chain = next((name for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE") if os.environ.get(name)), "AWS's own chain")
        return Credential(
            source=source or chain,
            key=SecretStr(validate_key(key, source)) if key else None,
            base_url=configured_base_url(settings, self.url_variable, self.url_template.format(region=region)),
            platform_name=self.name,
            options={"aws_region": region, **self._options()},
        )

    def _options(self) -> dict[str, str]:
        """Arguments of the SDK's client beside the region."""
        return {}

    def _restored_headers(self, credential: Credential) -> dict[str, str]:
        headers = {"anthropic-version": API_VERSION}
        if credential.key is not None:
            headers["Authorization"] = f"Bearer {credential.key.get_secret_value()}"
        if workspace := credential.options.get("workspace_id"):
            headers["anthropic-workspace-id"] = workspace
        return headers

    def _find_region(self) -> str:
        """The region from the environment, else from AWS's own configuration, which only boto3 reads."""
        if not any(os.environ.get(name, "").strip() for name in REGION_VARIABLES) and is_installed("boto3"):
            try:
                configured = cast("Any", import_module("boto3")).Session().region_name
            except Exception as error:  # a profile that does not exist
                call_error = self.library_error(error)
                if call_error is None:
                    raise
                raise call_error from None
            if isinstance(configured, str) and ADDRESS_PART.match(configured):
                return configured
        return required_name(self.title, "region", *REGION_VARIABLES)


class ClaudePlatformOnAws(AmazonPlatform):
    """Claude Platform on AWS. A workspace is required."""

    name: ClassVar[PlatformName] = "aws"
    title = "Claude Platform on AWS"
    client_class = "AsyncAnthropicAWS"
    extra = "aws"
    how_to_authenticate = f"Set ANTHROPIC_AWS_API_KEY or {AWS_CREDENTIALS} in the environment of mcp-server-claude."
    url_template = "https://aws-external-anthropic.{region}.api.aws"
    url_variable = "ANTHROPIC_AWS_BASE_URL"
    key_variables = ("ANTHROPIC_AWS_API_KEY",)
    files_beta = FILES_BETA

    def counts_thinking(self, credential: Credential) -> bool:
        """True: it is Anthropic's own service."""
        del credential
        return True

    def _options(self) -> dict[str, str]:
        return {"workspace_id": required_name(self.title, "workspace", "ANTHROPIC_AWS_WORKSPACE_ID")}
