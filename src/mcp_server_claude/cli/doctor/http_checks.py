"""Checks for a team server: users, the identity provider, telemetry.

Each applies only if the settings, or existing users, require it.
"""

from __future__ import annotations

import os
from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING

import anyio.to_thread

from mcp_server_claude import number_formatting
from mcp_server_claude.cli.command_line import pasteable_command
from mcp_server_claude.cli.doctor.finding import Finding
from mcp_server_claude.errors import CallError, ConfigurationError
from mcp_server_claude.store import Store
from mcp_server_claude.telemetry import exporter_settings
from mcp_server_claude.users.tokens_and_sessions import UserDirectory
from mcp_server_claude.web.auth import oidc_tokens
from mcp_server_claude.web.auth.jwks_cache import JwksCache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.settings import Settings


async def check_http(settings: Settings, *, offline: bool) -> list[Finding]:
    """Everything about it."""
    return [*await check_users(settings), *await check_oidc(settings, offline=offline), *check_telemetry(settings)]


async def check_users(settings: Settings) -> list[Finding]:
    """Check that there are users, and an operator among them."""
    store = await anyio.to_thread.run_sync(Store.open, settings.data_dir, settings.store_url)
    try:
        listed = await UserDirectory(settings, store).list_users()
    except ConfigurationError:
        return []  # the ledger's own finding says it
    finally:
        await store.close()
    if not listed and not settings.public_url:
        return []
    roles = Counter(each.user.role for each in listed)
    operators = number_formatting.format_count(roles["operator"], "operator") if roles["operator"] else "no operators"
    text = f"{roles.total()} ({operators})"
    if roles["operator"]:
        return [Finding(name="users", ok=True, text=text)]
    if listed:
        hint = f"To make one an operator: {pasteable_command('user', 'set', 'NAME', '--operator')}"
        return [Finding(name="users", ok=None, text=f"{text}: no user can see the usage of all users.", hint=hint)]
    hint = f"To add one: {pasteable_command('user', 'add', 'NAME', '--operator')}"
    text = "none yet" if settings.oidc_issuer else "none: the server answers only this machine."
    return [Finding(name="users", ok=None, text=text, hint=hint)]


async def check_oidc(settings: Settings, *, offline: bool) -> list[Finding]:
    """Check whether tokens of the identity provider can be checked."""
    if not settings.oidc_issuer:
        return []
    try:
        oidc_tokens.check_oidc_settings(settings)
        if not offline:
            await JwksCache(settings.oidc_issuer, settings.oidc_jwks_url).find_key(None, "RS256")
    except ConfigurationError as failure:
        return [Finding(name="sign-in", ok=False, text=str(failure), hint="docs/identity.md lists what is needed.")]
    except CallError:
        text = f"{settings.oidc_issuer} does not provide its keys, so its tokens cannot be checked."
        hint = "Its metadata must be reachable from here, name exactly this issuer, and contain jwks_uri."
        return [Finding(name="sign-in", ok=False, text=text, hint=hint)]
    note = "" if offline else ", which provided its keys"
    text = f"{settings.oidc_issuer}{note}; its tokens must be issued for {oidc_tokens.accepted_audiences(settings)[0]}"
    return [Finding(name="sign-in", ok=True, text=text)]


def check_telemetry(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Finding]:
    """Check that the extras for the configured telemetry are installed."""
    required = {
        "otel": (exporter_settings.is_enabled(environ), "opentelemetry.sdk", "OTEL_* variables"),
        "prometheus": (settings.metrics_token is not None, "prometheus_client", "MCP_CLAUDE_METRICS_TOKEN"),
    }
    return [
        _extra_finding(extra, why, there=_is_installed(package))
        for extra, (enabled, package, why) in required.items()
        if enabled
    ]


def _extra_finding(extra: str, why: str, *, there: bool) -> Finding:
    if there:
        return Finding(name="telemetry", ok=True, text=f"[{extra}] is installed, for {why}")
    hint = f"pip install 'mcp-server-claude[{extra}]'"
    return Finding(name="telemetry", ok=None, text=f"{why} need it, but it is not installed.", hint=hint)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
