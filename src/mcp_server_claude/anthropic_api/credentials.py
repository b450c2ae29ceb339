"""Credentials from the environment: keys, URLs and names are read and checked here before anything is sent."""

from __future__ import annotations

import os
import re
from dataclasses import field
from hashlib import sha256
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.redaction import register_secret
from mcp_server_claude.settings_sources import APP_NAME, is_placeholder, without_copying_marks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

    from mcp_server_claude.settings import PlatformName, Settings

ANTHROPIC_URL = "https://api.anthropic.com"
API_VERSION = "2026-10-21"
"""The API version that the SDK (2.14) speaks. Sent explicitly only where the environment would replace it."""
ADDRESS_PART = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")
"""A region, project, resource or workspace: it becomes part of an address."""
HOW_TO_SET_KEY = (
    "Set MCP_CLAUDE_API_KEY (or ANTHROPIC_API_KEY) in the environment of mcp-server-claude: in a shell with `export`, "
    "for an MCP client in the `env` of the server's entry in its configuration; keys are made in the Anthropic Console."
)


@frozen_dataclass(kw_only=True)
class Credential:
    """The key in use and the address that it goes to.

    `source` names the variable that holds the key, or the SDK's own chain; `key` is None when the SDK finds its own.
    An `own_key` belongs to this server alone: only `MCP_CLAUDE_BASE_URL` redirects it, so that it never goes to the
    gateway that a client's environment names. `warning` is a sentence on a key that looks wrong. `options` are further
    arguments of the SDK's client for a cloud, such as a region or a project.
    """

    source: str
    key: SecretStr | None = None
    own_key: bool = False
    base_url: str = ANTHROPIC_URL
    warning: str = ""
    platform_name: PlatformName = "anthropic"
    options: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def account(self) -> str:
        """An identifier that differs between accounts, as far as it is known without a request. It reveals no key."""
        secret = self.key.get_secret_value() if self.key else self.source
        return sha256(f"{self.base_url}\n{secret}".encode()).hexdigest()[:16]

    @property
    def region(self) -> str:
        """The region of the cloud, empty elsewhere."""
        return self.options.get("aws_region") or self.options.get("region") or ""


def custom_header_names() -> list[str]:
    """The names of the headers that `ANTHROPIC_CUSTOM_HEADERS` adds to every request of the SDK."""
    lines = os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "").split("\n")
    return [name.strip() for name, colon, _ in (line.partition(":") for line in lines) if colon]


def validate_key(key: str, source: str) -> str:
    """Register the key as a secret and return it.

    Raises:
        ConfigurationError: The key holds characters that no HTTP header can carry.
    """
    register_secret(key)
    if any(not character.isprintable() or character.isspace() for character in key):
        raise ConfigurationError(
            f"{source} contains a line break, a space or a control character, so it cannot be a key. Paste it again.",
            kind="malformed_key",
        )
    if not key.isascii():
        raise ConfigurationError(f"{source} contains characters that no key has. Paste it again.", kind="malformed_key")
    return key


def validate_url(url: str, source: str) -> str:
    """The base URL without a trailing slash, without a trailing `/v1` (the SDK appends it), and without a query.

    A query cannot be part of a base URL and is never sent. Its values are registered as secrets, since a key is what
    people put there.

    Raises:
        ConfigurationError: It is not an HTTP URL.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise ConfigurationError(_not_a_url(source), kind="base_url") from None
    if not usable or any(character.isspace() or not character.isprintable() for character in url):
        raise ConfigurationError(_not_a_url(source), kind="base_url")
    for _, value in parse_qsl(parts.query, keep_blank_values=True):
        register_secret(value)
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def url_warning(url: str, source: str) -> str:
    """A sentence about a query or fragment in the base URL; empty without one."""
    if "?" in url or "#" in url:
        return (
            f"{source} has a query (?…) or a fragment (#…), which is not sent. Put a key in MCP_CLAUDE_API_KEY, or a "
            "gateway's header in ANTHROPIC_CUSTOM_HEADERS."
        )
    return ""


def _not_a_url(source: str) -> str:
    return f"{source} is not a URL that begins with http:// or https://."


def configured_base_url(settings: Settings, variable: str, default: str) -> str:
    """The address from `MCP_CLAUDE_BASE_URL`, else from the platform's own variable, else the default.

    Raises:
        ConfigurationError: The address is not a URL.
    """
    if settings.base_url:
        return validate_url(settings.base_url, "MCP_CLAUDE_BASE_URL")
    value = os.environ.get(variable, "").strip()
    return validate_url(value, variable) if value else default


def first_key(*variables: str) -> tuple[str, str]:
    """The name and value of the first variable that holds a key; two empty strings if none does.

    Raises:
        ConfigurationError: The variable holds a placeholder.
    """
    for name in variables:
        value = without_copying_marks(os.environ.get(name, ""))
        if value and is_placeholder(value):
            raise ConfigurationError(f"{name} contains a placeholder that was never filled in.", kind="no_key")
        if value:
            return name, value
    return "", ""


def required_name(title: str, label: str, *variables: str) -> str:
    """The region, project, resource or workspace (`label`) that one of the variables names.

    Raises:
        ConfigurationError: No variable names one, or its value cannot be part of an address.
    """
    found = next(((name, value) for name in variables if (value := os.environ.get(name, "").strip())), None)
    if found is None:
        raise ConfigurationError(
            f"{title} needs a {label}: set {' or '.join(variables)} in the environment of mcp-server-claude.",
            kind="platform",
        )
    if not ADDRESS_PART.match(found[1]):
        raise ConfigurationError(f"{found[0]} does not contain the name of a {label}.", kind="platform")
    return found[1]


def require_package(package: str, title: str, extra: str) -> None:
    """Check that a platform's package is installed.

    Raises:
        ConfigurationError: It is not; the message gives the command that installs it.
    """
    if not is_installed(package):
        raise ConfigurationError(
            f'{title} needs a package that is not installed: pip install "{APP_NAME}[{extra}]".', kind="missing_extra"
        )


def is_installed(package: str) -> bool:
    """True if the package can be imported."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # the parent package is missing, or a test has blocked the import
        return False
