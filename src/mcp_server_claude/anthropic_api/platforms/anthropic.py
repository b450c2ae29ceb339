"""Anthropic's own API, or a gateway in its place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from mcp_server_claude.anthropic_api import system_keyring
from mcp_server_claude.anthropic_api.credentials import (
    ANTHROPIC_URL,
    API_VERSION,
    HOW_TO_SET_KEY,
    Credential,
    custom_header_names,
    url_warning,
    validate_key,
    validate_url,
)
from mcp_server_claude.anthropic_api.platforms.platform import Platform
from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.settings_sources import is_placeholder, without_copying_marks

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from httpx2 import AsyncClient

    from mcp_server_claude.settings import PlatformName, Settings

KEY_PREFIX = "sk-ant-"
SDK_CREDENTIAL_VARIABLES = (
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_PROFILE",
    "ANTHROPIC_FEDERATION_RULE_ID",
    "ANTHROPIC_CONFIG_DIR",
)
"""Further variables of the SDK's own chain, in its order (`anthropic/lib/credentials/_chain.py`, 2.14)."""


class AnthropicPlatform(Platform):
    """Anthropic's own API. A key comes from the settings, from `ANTHROPIC_API_KEY`, or from the SDK's own chain."""

    name: ClassVar[PlatformName] = "anthropic"
    title = "Anthropic's own API"
    client_class = "AsyncAnthropic"
    how_to_authenticate = HOW_TO_SET_KEY
    is_cloud = False

    def find_credential(self, settings: Settings) -> Credential:
        """The credential that requests will carry.

        Raises:
            ConfigurationError: There is no key, or it could not be sent in a header.
        """
        from pydantic import SecretStr

        if settings.api_key is not None or settings.keyring:
            source, value = _own_key(settings)
            key = validate_key(value, source)
            base_url = validate_url(settings.base_url or ANTHROPIC_URL, "MCP_CLAUDE_BASE_URL")
            return Credential(
                source=source,
                key=SecretStr(key),
                own_key=True,
                base_url=base_url,
                warning=url_warning(settings.base_url, "MCP_CLAUDE_BASE_URL") or _key_warning(key, base_url),
            )
        variable = "MCP_CLAUDE_BASE_URL" if settings.base_url else "ANTHROPIC_BASE_URL"
        url = settings.base_url or os.environ.get("ANTHROPIC_BASE_URL", "").strip() or ANTHROPIC_URL
        base_url = validate_url(url, variable)
        warning = url_warning(url, variable)
        value = without_copying_marks(os.environ.get("ANTHROPIC_API_KEY", ""))
        if value and not is_placeholder(value):
            key = validate_key(value, "ANTHROPIC_API_KEY")
            return Credential(
                source="ANTHROPIC_API_KEY",
                key=SecretStr(key),
                base_url=base_url,
                warning=warning or _key_warning(key, base_url),
            )
        for name in SDK_CREDENTIAL_VARIABLES:
            if os.environ.get(name):
                if name == "ANTHROPIC_AUTH_TOKEN":
                    validate_key(os.environ[name].strip(), name)
                return Credential(source=name, base_url=base_url, warning=warning)
        if _has_sdk_profile():
            return Credential(source="the SDK's profile", base_url=base_url, warning=warning)
        raise ConfigurationError(_no_key_message(value), kind="no_key")

    def build_client(
        self, settings: Settings, credential: Credential, http_client: AsyncClient, telemetry: Any
    ) -> AsyncAnthropic:
        """The SDK's client for Anthropic's own API, or for a gateway in its place."""
        import anthropic

        key = credential.key.get_secret_value() if credential.key else None
        headers: dict[str, Any] = {}
        if credential.own_key:
            # The client's environment may add headers for its own gateway; this server's own key travels without them.
            # Omitting one that the SDK sets itself would take the SDK's away too, so those two are set again.
            headers = dict.fromkeys(custom_header_names(), anthropic.omit)
            if headers:
                headers |= {"Authorization": f"Bearer {key}", "anthropic-version": API_VERSION}
        if key and settings.auth_header == "x-api-key":
            headers |= {"X-Api-Key": key, "Authorization": anthropic.omit}
        token = os.environ["ANTHROPIC_AUTH_TOKEN"].strip() if credential.source == "ANTHROPIC_AUTH_TOKEN" else None
        return anthropic.AsyncAnthropic(
            api_key=key,
            auth_token=token,
            base_url=credential.base_url,
            max_retries=0,  # the engine retries: the SDK would wait through any Retry-After without a word
            default_headers=headers,
            open_telemetry=telemetry,
            http_client=http_client,
        )

    def counts_thinking(self, credential: Credential) -> bool:
        """True at Anthropic's own address; a gateway may refuse the beta."""
        return credential.base_url == ANTHROPIC_URL


def _own_key(settings: Settings) -> tuple[str, str]:
    """The source and the value of the key that is this server's own: of its setting, else of the system's keyring.

    Raises:
        ConfigurationError: The keyring has no such key, or cannot be used.
    """
    if settings.api_key is not None:
        return settings.source_of("api_key"), settings.api_key.get_secret_value()
    return f"the system's keyring ({settings.keyring})", system_keyring.cached_key(settings.keyring)


def _key_warning(key: str, base_url: str) -> str:
    if base_url == ANTHROPIC_URL and not key.startswith(KEY_PREFIX):
        return f"The key does not begin with {KEY_PREFIX}, as Anthropic's keys do."
    return ""


def _no_key_message(api_key_value: str) -> str:
    variable = next((name for name in ("MCP_CLAUDE_API_KEY", "ANTHROPIC_API_KEY") if os.environ.get(name)), "")
    if variable or api_key_value:
        unfilled = variable or "ANTHROPIC_API_KEY"
        return f"There is no API key: {unfilled} contains a placeholder that was never filled in. {HOW_TO_SET_KEY}"
    return f"There is no API key. {HOW_TO_SET_KEY}"


def _has_sdk_profile() -> bool:
    """True if a profile of the SDK exists on disk. Only the SDK knows where it stores them."""
    from anthropic.lib.credentials import default_credentials

    try:
        return default_credentials() is not None
    except Exception:  # noqa: BLE001 - the SDK reports a broken profile when it is used
        return True
