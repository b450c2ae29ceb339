"""Microsoft Foundry."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, cast

import anyio.to_thread
from pydantic import SecretStr

from mcp_server_claude.anthropic_api.credentials import (
    API_VERSION,
    Credential,
    configured_base_url,
    first_key,
    is_installed,
    required_name,
    validate_key,
)
from mcp_server_claude.anthropic_api.platforms.platform import (
    FILES_BETA,
    CloudPlatform,
    Feature,
    without_date,
)
from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.settings_sources import APP_NAME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mcp_server_claude.settings import PlatformName, Settings

URL_VARIABLE = "ANTHROPIC_FOUNDRY_BASE_URL"
ENTRA_SCOPE = "https://ai.azure.com/.default"
"""The scope of Foundry (docs, "Claude in Microsoft Foundry", Microsoft Entra authentication)."""


class Foundry(CloudPlatform):
    """Microsoft Foundry, with a key or with Microsoft Entra.

    Server tools, structured outputs and files exist on deployments that Anthropic hosts, and are answered with HTTP 400
    on those that Azure hosts. They cannot be distinguished beforehand.
    """

    name: ClassVar[PlatformName] = "foundry"
    title = "Microsoft Foundry"
    client_class = "AsyncAnthropicFoundry"
    extra = "foundry"
    how_to_authenticate = "Set ANTHROPIC_FOUNDRY_API_KEY, or sign in with `az login`."
    unsupported: ClassVar[frozenset[Feature]] = frozenset({"models", "batch", "thinking_count"})
    files_beta = FILES_BETA

    def find_credential(self, settings: Settings) -> Credential:
        """The key, else Microsoft Entra, and the address of the resource.

        Raises:
            ConfigurationError: There is neither a key nor azure-identity, or no resource.
        """
        source, key = first_key("ANTHROPIC_FOUNDRY_API_KEY")
        if not key and not is_installed("azure.identity"):
            raise ConfigurationError(
                f"There is no key for {self.title}. Set ANTHROPIC_FOUNDRY_API_KEY, or install what signs in with "
                f'Microsoft Entra: pip install "{APP_NAME}[{self.extra}]".',
                kind="no_key",
            )
        default = ""
        if not settings.base_url and not os.environ.get(URL_VARIABLE, "").strip():
            resource = required_name(self.title, "resource", "ANTHROPIC_FOUNDRY_RESOURCE")
            default = f"https://{resource}.services.ai.azure.com/anthropic"
        return Credential(
            source=source or "Microsoft Entra",
            key=SecretStr(validate_key(key, source)) if key else None,
            base_url=configured_base_url(settings, URL_VARIABLE, default),
            platform_name=self.name,
        )

    def _restored_headers(self, credential: Credential) -> dict[str, str]:
        del credential
        return {"anthropic-version": API_VERSION}

    def _client_arguments(self, credential: Credential) -> Mapping[str, Any]:
        """Without a key, the function by which the SDK asks Microsoft Entra for a token before each request."""
        return {} if credential.key is not None else {"azure_ad_token_provider": _entra_token_provider()}

    def platform_model_id(self, model_id: str, region: str = "") -> str:
        """The name that a deployment of the model has unless it was given another."""
        del region
        return without_date(model_id)


def _entra_token_provider() -> Callable[[], Awaitable[str]]:
    """Gets a token from wherever Microsoft's own chain finds one. That call blocks, so it runs on a thread."""
    identity = cast("Any", import_module("azure.identity"))
    get_token: Callable[[], str] = identity.get_bearer_token_provider(identity.DefaultAzureCredential(), ENTRA_SCOPE)

    async def provide_token() -> str:
        return await anyio.to_thread.run_sync(get_token, abandon_on_cancel=True)

    return provide_token
