"""Which key is used, where it came from, and what is wrong with it, said before anything is sent."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mcp_server_claude.anthropic_api.platforms.platform import PLATFORMS
from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.redaction import register_secret
from mcp_server_claude.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

    from mcp_server_claude.anthropic_api.platforms.platform import Platform

ANTHROPIC_URL = "https://api.anthropic.com"
API_VERSION = "2026-10-21"
"""What the SDK (2.11) speaks; sent by us only where the environment would replace it."""
KEY_PREFIX = "sk-ant-"
SDK_CREDENTIAL_VARIABLES = (
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_PROFILE",
    "ANTHROPIC_FEDERATION_RULE_ID",
    "ANTHROPIC_CONFIG_DIR",
)
"""What else the SDK's own chain looks at, in its order (`anthropic/lib/credentials/_chain.py`, 2.11)."""

HOW_TO_SET_KEY = (
    "Set MCP_CLAUDE_API_KEY (or ANTHROPIC_API_KEY) in this server's environment, e.g. in the `env` of its entry in "
    "the client's configuration; keys are made in the Anthropic Console."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The key in use: `source` names the variable, or the SDK's chain; `key` is None when the SDK finds its own.

    `private` keys are this server's own: only `MCP_CLAUDE_BASE_URL` redirects them, so that a private key never goes
    to the gateway that a client's environment names. `warning` is a sentence on a key that looks wrong. `options` are
    what the SDK's client for a cloud wants besides: a region, a project.
    """

    source: str
    key: SecretStr | None = None
    own_key: bool = False
    base_url: str = ANTHROPIC_URL
    warning: str = ""
    platform: Platform = PLATFORMS["anthropic"]
    options: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def region(self) -> str:
        """Where in a cloud, empty elsewhere."""
        return self.options.get("aws_region") or self.options.get("region") or ""

    @property
    def description(self) -> str:
        """The platform for people: `Amazon Bedrock, region eu-west-1`."""
        what = {"aws_region": "region", "region": "region", "project_id": "project", "workspace_id": "workspace"}
        return ", ".join([self.platform.title, *(f"{what[name]} {value}" for name, value in self.options.items())])


def find_credential(settings: Settings) -> Credential:
    """The credential that requests will carry.

    Raises:
        ConfigurationError: There is none, or it could not be sent in a header.
    """
    from pydantic import SecretStr

    if settings.platform != "anthropic":
        from mcp_server_claude.anthropic_api.platforms import cloud_clients

        return cloud_clients.find_cloud_credential(settings)
    if settings.api_key is not None:
        key = validate_key(settings.api_key.get_secret_value(), settings.source_of("api_key"))
        base_url = settings.base_url or ANTHROPIC_URL
        return Credential(
            source=settings.source_of("api_key"),
            key=SecretStr(key),
            own_key=True,
            base_url=validate_url(base_url, "MCP_CLAUDE_BASE_URL"),
            warning=_key_warning(key, base_url),
        )
    base_url = validate_url(
        settings.base_url or os.environ.get("ANTHROPIC_BASE_URL", "").strip() or ANTHROPIC_URL,
        "MCP_CLAUDE_BASE_URL" if settings.base_url else "ANTHROPIC_BASE_URL",
    )
    given = os.environ.get("ANTHROPIC_API_KEY", "").strip().strip("\"'")
    if given and not Settings.is_placeholder(given):
        key = validate_key(given, "ANTHROPIC_API_KEY")
        return Credential(
            source="ANTHROPIC_API_KEY", key=SecretStr(key), base_url=base_url, warning=_key_warning(key, base_url)
        )
    for name in SDK_CREDENTIAL_VARIABLES:
        if os.environ.get(name):
            if name == "ANTHROPIC_AUTH_TOKEN":
                validate_key(os.environ[name].strip(), name)
            return Credential(source=name, base_url=base_url)
    if _has_sdk_profile():
        return Credential(source="the SDK's profile", base_url=base_url)
    raise ConfigurationError(_no_key_message(given), kind="no_key")


def _no_key_message(given: str) -> str:
    named = next((name for name in ("MCP_CLAUDE_API_KEY", "ANTHROPIC_API_KEY") if os.environ.get(name)), "")
    if named or given:
        unfilled = named or "ANTHROPIC_API_KEY"
        return f"There is no API key: {unfilled} holds a placeholder that was never filled in. {HOW_TO_SET_KEY}"
    return f"There is no API key. {HOW_TO_SET_KEY}"


def _has_sdk_profile() -> bool:
    """Whether a profile of the SDK lies on disk. Asked of the SDK, which alone knows where it keeps them."""
    from anthropic.lib.credentials import default_credentials

    try:
        return default_credentials() is not None
    except Exception:  # noqa: BLE001 - a profile that is broken is told by the SDK when it is used
        return True


def custom_header_names() -> list[str]:
    """The names of the headers that the environment adds to every request of the SDK."""
    lines = os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "").split("\n")
    return [name.strip() for name, colon, _ in (line.partition(":") for line in lines) if colon]


def validate_key(key: str, source: str) -> str:
    """The key, which from now on is hidden wherever text is shown.

    Raises:
        ConfigurationError: No header can carry it.
    """
    register_secret(key)
    if any(not character.isprintable() or character.isspace() for character in key):
        raise ConfigurationError(
            f"{source} holds a line break, a space or a control character, so it cannot be a key. Paste it again.",
            kind="malformed_key",
        )
    if not key.isascii():
        raise ConfigurationError(f"{source} holds characters that no key has. Paste it again.", kind="malformed_key")
    return key


def validate_url(url: str, source: str) -> str:
    """The URL without a slash at its end.

    Raises:
        ConfigurationError: It is none.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in url):
        raise ConfigurationError(f"{source} is not a URL that begins with http:// or https://.", kind="base_url")
    return url.rstrip("/")


def _key_warning(key: str, base_url: str) -> str:
    if base_url == ANTHROPIC_URL and not key.startswith(KEY_PREFIX):
        return f"The key does not begin with {KEY_PREFIX}, as Anthropic's keys do."
    return ""
