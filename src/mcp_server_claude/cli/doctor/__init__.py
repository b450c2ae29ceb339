"""Checks of the installation: a list of findings, each failing one with a hint.

Nothing here prints, and no finding holds a key: what the SDK raises passes through `anthropic_api.error_classification`
first.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from mcp_server_claude import __version__, number_formatting, pricing
from mcp_server_claude.anthropic_api.credentials import ANTHROPIC_URL, HOW_TO_SET_KEY
from mcp_server_claude.anthropic_api.models import bundled_catalog
from mcp_server_claude.anthropic_api.platforms import PLATFORMS, find_credential
from mcp_server_claude.cli.command_line import pasteable_command
from mcp_server_claude.cli.doctor.api_check import check_api, platform_catalog
from mcp_server_claude.cli.doctor.finding import CHECK_TIMEOUT_S, HINTS_BY_KIND, Finding
from mcp_server_claude.cli.doctor.http_checks import check_http
from mcp_server_claude.cli.doctor.ping_check import check_ping
from mcp_server_claude.cli.doctor.postgres_check import check_postgres
from mcp_server_claude.errors import ConfigurationError, RequestError
from mcp_server_claude.redaction import redact
from mcp_server_claude.settings import Settings
from mcp_server_claude.settings_sources import APP_NAME, config_file
from mcp_server_claude.store import Store, StoreError, clock_jumps, request_ledger
from mcp_server_claude.store.usage import daily_rollups

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mcp_server_claude.anthropic_api.credentials import Credential
    from mcp_server_claude.anthropic_api.models import ModelCatalog

MOVE_FILE_AWAY = "Move the file away; the server then creates a new one."
MIN_FREE_BYTES = 100_000_000
"""Bytes; a ledger grows by less than a kilobyte a call."""
PINNED_REQUIREMENT = re.compile(r"^([\w-]+)~=(\d+)\.(\d+)$")
URL_USERINFO = re.compile(r"//[^/\s@]*@")
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class PinnedPackage(NamedTuple):
    """A package that is needed as `name~=major.minor`."""

    name: str
    major: str
    minor: str

    @property
    def installed_version(self) -> str:
        """The installed version."""
        return metadata.version(self.name)

    @property
    def is_satisfied(self) -> bool:
        """True if the installed version has that major version and is not older."""
        found = re.match(r"(\d+)\.(\d+)", self.installed_version)
        return found is not None and found[1] == self.major and int(found[2]) >= int(self.minor)


async def run_checks(*, offline: bool = False, ping: bool = False) -> list[Finding]:
    """Everything, in the order in which one thing needs another. Takes seconds; offline it sends nothing anywhere.

    With `ping` a question is asked, which is paid.
    """
    settings = Settings.load()
    findings = [check_versions(), check_clock(), *check_settings(settings)]
    key, credential = await anyio.to_thread.run_sync(check_credentials, settings)
    findings += key
    findings.append(await check_ledger(settings))
    findings.append(await check_stdio())
    catalogue = platform_catalog(credential)
    if not offline and credential is not None:
        reached, catalogue = await check_api(settings, catalogue)
        findings.append(reached)
    findings += await anyio.to_thread.run_sync(check_model, settings, catalogue)
    findings += await check_http(settings, offline=offline)
    if ping and credential is not None:
        findings.append(await check_ping(settings))
    return [_redact_finding(finding) for finding in findings]


def has_failures(findings: Iterable[Finding]) -> bool:
    """True if one of them keeps the server from working."""
    return any(finding.ok is False for finding in findings)


def check_versions() -> Finding:
    """Check whether the packages are those that this version was made for."""
    required = [
        PinnedPackage(*found.groups())
        for line in metadata.requires(APP_NAME) or ()
        if (found := PINNED_REQUIREMENT.match(line))
    ]
    has = [f"{APP_NAME} {__version__}", *(f"{each.name} {each.installed_version}" for each in required)]
    text = f"{', '.join(has)}, Python {sys.version.split()[0]}"
    wrong = " and ".join(f"{each.name} {each.major}.{each.minor}" for each in required if not each.is_satisfied)
    if wrong:
        hint = f"Install {wrong} (or a later one of the same major version) in an environment of its own."
        return Finding(name="versions", ok=False, text=text, hint=hint)
    return Finding(name="versions", ok=True, text=text)


def check_clock() -> Finding:
    """Check whether the time can be right: certificates, day budgets and prices depend on it."""
    now = datetime.now(UTC)
    text = f"{now:%Y-%m-%d %H:%M} UTC"
    if f"{now:%Y-%m-%d}" < bundled_catalog().as_of:
        return Finding(
            name="clock", ok=False, text=f"{text} is earlier than the release of this package.", hint="Set the clock."
        )
    return Finding(name="clock", ok=True, text=text)


def check_settings(settings: Settings) -> list[Finding]:
    """Each setting that could not be read; or where they came from."""
    if settings.problems:
        hint = "Fix or remove it; until then nothing is sent. docs/settings.md lists all settings."
        return [Finding(name="settings", ok=False, text=problem, hint=hint) for problem in settings.problems]
    names = [name for name in type(settings).model_fields if settings.source_of(name) != "default"]
    sources = sorted({settings.source_of(name) for name in names})
    path = config_file()
    names = ", ".join(sources) or "all defaults"
    return [Finding(name="settings", ok=True, text=names if path.exists() else f"{names}; there is no file {path}")]


def check_credentials(settings: Settings) -> tuple[list[Finding], Credential | None]:
    """Which key is used and where it is sent; None when there is none. Blocks: the SDK may be imported."""
    try:
        credential = find_credential(settings)
    except ConfigurationError as failure:
        name = {"base_url": "base URL", "platform": "platform", "missing_extra": "platform"}.get(failure.kind, "key")
        text = str(failure).removesuffix(HOW_TO_SET_KEY).strip()
        cloudy = settings.platform != "anthropic" and failure.kind == "no_key"
        hint = HINTS_BY_KIND["platform"] if cloudy else HINTS_BY_KIND.get(failure.kind, HINTS_BY_KIND["platform"])
        return [Finding(name=name, ok=False, text=text, hint=hint)], None
    key = Finding(name="key", ok=True, text=f"from {credential.source}")
    if credential.warning:
        key = replace(key, ok=None, text=f"{key.text}. {credential.warning}", hint=HINTS_BY_KIND["malformed_key"])
    platform = PLATFORMS[settings.platform]
    where = [Finding(name="platform", ok=True, text=platform.description(credential))] if platform.is_cloud else []
    return [*where, key, _check_base_url(credential)], credential


async def check_ledger(settings: Settings) -> Finding:
    """Check whether the ledger outlives the process, and is safe from others."""
    directory = settings.data_dir
    store = await anyio.to_thread.run_sync(Store.open, directory, settings.store_url)
    try:
        (whole,) = await store.read(request_ledger.summarize_usage, time.time() - 86400, by=())
        differing = await store.read_slow(daily_rollups.days_that_differ)
        if differing:
            await store.write(daily_rollups.rebuild_rollups)
        server = await check_postgres(store) if settings.store_url else None
        before_jump = await store.read(clock_jumps.time_before_jump, time.time())
    except StoreError as error:
        hint = "Check MCP_CLAUDE_DATABASE_URL and the server." if settings.store_url else MOVE_FILE_AWAY
        return Finding(name="ledger", ok=False, text=str(error), hint=hint)
    finally:
        await store.close()
    if not store.durable:
        hint = "Make the directory writable, or set MCP_CLAUDE_DATA_DIR to another one."
        return Finding(name="ledger", ok=None, text=store.last_error, hint=hint)
    text = f"{store.location}, {number_formatting.format_count(whole.requests, 'request')} in the last 24 hours"
    if differing:
        text += f"; the daily totals of {', '.join(differing)} did not match and were recalculated"
    if before_jump is not None:
        text += f"; the clock went forward from {datetime.fromtimestamp(before_jump, UTC):%Y-%m-%d} at once"
        hint = "Set the clock if it is wrong: what has expired by it is deleted three days after that."
        return Finding(name="ledger", ok=None, text=f"{text}.", hint=hint)
    if server is not None:
        return replace(server, text=f"{text}; {server.text}")
    return await anyio.to_thread.run_sync(_check_ledger_directory, directory, text)


def _check_ledger_directory(directory: Path, text: str) -> Finding:
    """Check whether the ledger is in a good place. Blocks for a moment."""
    if shutil.disk_usage(directory).free < MIN_FREE_BYTES:
        return Finding(name="ledger", ok=None, text=f"{text}; the disk is almost full.", hint="Make room on the disk.")
    if os.name == "posix" and directory.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        hint = f"chmod go-w {shlex.quote(str(directory))}"
        return Finding(name="ledger", ok=None, text=f"{text}; other users may write to that directory.", hint=hint)
    return Finding(name="ledger", ok=True, text=text)


async def check_stdio() -> Finding:
    """Check whether the server answers a client over stdio, started without a key and without a network."""
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    began = time.monotonic()
    with TemporaryDirectory(ignore_cleanup_errors=True) as away, open(os.devnull, "w") as silence:  # noqa: ASYNC230, PTH123
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "mcp_server_claude"],
            env={
                "MCP_CLAUDE_API_KEY": "sk-ant-doctor-without-a-key",
                "MCP_CLAUDE_BASE_URL": "http://127.0.0.1:9",
                "MCP_CLAUDE_DATA_DIR": away,
            },
        )
        try:
            with anyio.fail_after(CHECK_TIMEOUT_S):
                async with Client(stdio_client(server, errlog=silence)) as client:
                    duration = time.monotonic() - began
                    tools = (await client.list_tools()).tools
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            text = f"The server did not answer over stdio ({type(error).__name__})."
            return Finding(
                name="server", ok=False, text=text, hint=f"Run {pasteable_command()} by hand and read its stderr."
            )
    count = number_formatting.format_count(len(tools), "tool")
    text = f"answers over stdio in {number_formatting.format_seconds(duration)}, {count}"
    return Finding(name="server", ok=True, text=text)


def check_model(settings: Settings, catalogue: ModelCatalog) -> list[Finding]:
    """Which model a call without one asks, and whether its price is known. Blocks: the prices are loaded."""
    try:
        model = catalogue.resolve_model(settings.model, default="sonnet")
    except RequestError as failure:
        hint = f"Set MCP_CLAUDE_MODEL to one of {', '.join(catalogue.callable_ids()[:4])}, or to a family such as opus."
        return [Finding(name="model", ok=False, text=str(failure), hint=hint)]
    text = model.id if model.id == settings.model else f"{model.id} (for {settings.model})"
    found = Finding(name="model", ok=True, text=text)
    if model.lifecycle_note:
        hint = "Set MCP_CLAUDE_MODEL to a family such as sonnet, for its newest model."
        found = replace(found, ok=None, text=f"{text}. {model.lifecycle_note}", hint=hint)
    elif not model.is_listed:
        hint = "It is sent unchanged. If the API refuses it, correct MCP_CLAUDE_MODEL."
        found = replace(found, ok=None, text=f"{text}, which is not in this package's list", hint=hint)
    return [found, _check_price(model.id), *_check_fallback_model(settings, catalogue)]


def _check_fallback_model(settings: Settings, catalogue: ModelCatalog) -> list[Finding]:
    """Check that the fallback model exists, where one is set."""
    if not settings.fallback_model:
        return []
    try:
        model = catalogue.resolve_model(settings.fallback_model)
    except RequestError as failure:
        hint = "Correct or unset MCP_CLAUDE_FALLBACK_MODEL."
        return [Finding(name="fallback", ok=False, text=str(failure), hint=hint)]
    return [Finding(name="fallback", ok=True, text=f"{model.id}, when the requested model is overloaded or declines")]


def _check_price(model: str) -> Finding:
    rates = pricing.find_rates(model)
    if rates is None:
        hint = "Calls work, and their cost is reported as unknown. A newer genai-prices may know it."
        return Finding(name="price", ok=None, text=f"The price of {model} is unknown.", hint=hint)
    text = (
        f"${rates.input.normalize():f} in, ${rates.output.normalize():f} out per million tokens "
        f"({pricing.price_list_version()})"
    )
    return Finding(name="price", ok=True, text=text)


def _check_base_url(credential: Credential) -> Finding:
    try:
        parts = urlsplit(credential.base_url)
    except ValueError:
        return Finding(name="base URL", ok=False, text="It is not a URL.", hint=HINTS_BY_KIND["base_url"])
    # Only the part that names its destination: a URL may carry a password.
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if credential.base_url == ANTHROPIC_URL:
        return Finding(name="base URL", ok=True, text=f"{address}, Anthropic's own")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        return Finding(name="base URL", ok=None, text=f"{address}: the key travels unencrypted.", hint="Use https://.")
    return Finding(name="base URL", ok=True, text=address)


def _redact_finding(finding: Finding) -> Finding:
    """The last look: whatever a finding says, no key and no password of a URL is in it."""
    text, hint = (URL_USERINFO.sub("//", redact(each)) for each in (finding.text, finding.hint))
    return replace(finding, text=text, hint=hint)
