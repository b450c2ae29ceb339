"""What may keep this server from working, looked at one by one: a list of findings, each failing one with a hint.

Nothing here prints, and no finding holds a key: what the SDK raises passes through `claude.faults` first.
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
from mcp_server_claude.anthropic_api import find
from mcp_server_claude.anthropic_api.credentials import ANTHROPIC_URL, HOW_TO_SET
from mcp_server_claude.anthropic_api.models import ours
from mcp_server_claude.cli.doctor.api_check import api, own
from mcp_server_claude.cli.doctor.finding import HINTS, PATIENCE_S, Finding
from mcp_server_claude.cli.doctor.http_checks import team
from mcp_server_claude.errors import Misconfigured, Refused
from mcp_server_claude.redaction import redact
from mcp_server_claude.settings import APP, Settings, config_file
from mcp_server_claude.store import Store, StoreError, request_ledger

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mcp_server_claude.anthropic_api import Credential
    from mcp_server_claude.anthropic_api.models import Catalogue

LITTLE_SPACE = 100_000_000
"""Bytes; a ledger grows by less than a kilobyte a call."""
PINNED = re.compile(r"^([\w-]+)~=(\d+)\.(\d+)$")
PASSWORD = re.compile(r"//[^/\s@]*@")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Required(NamedTuple):
    """A package that is needed as `name~=major.minor`."""

    name: str
    major: str
    minor: str

    @property
    def installed(self) -> str:
        """The version at hand."""
        return metadata.version(self.name)

    @property
    def met(self) -> bool:
        """Whether the version at hand is of that major version and not older."""
        found = re.match(r"(\d+)\.(\d+)", self.installed)
        return found is not None and found[1] == self.major and int(found[2]) >= int(self.minor)


async def examine(offline: bool = False) -> list[Finding]:  # noqa: FBT001, FBT002 - `anyio.run` passes by position
    """Everything, in the order in which one thing needs another. Takes seconds; offline it sends nothing anywhere."""
    settings = Settings.load()
    findings = [versions(), clock(), *choices(settings)]
    key, credential = await anyio.to_thread.run_sync(keys, settings)
    findings += key
    findings.append(await book(settings.data_dir))
    findings.append(await serving())
    catalogue = own(credential)
    if not offline and credential is not None:
        reached, catalogue = await api(settings, catalogue)
        findings.append(reached)
    findings += await anyio.to_thread.run_sync(asked, settings, catalogue)
    findings += await team(settings, offline=offline)
    return [_scrubbed(finding) for finding in findings]


def broken(findings: Iterable[Finding]) -> bool:
    """Whether one of them keeps the server from working."""
    return any(finding.ok is False for finding in findings)


def versions() -> Finding:
    """Whether the packages are those that this version was made for."""
    required = [Required(*found.groups()) for line in metadata.requires(APP) or () if (found := PINNED.match(line))]
    has = [f"{APP} {__version__}", *(f"{each.name} {each.installed}" for each in required)]
    text = f"{', '.join(has)}, Python {sys.version.split()[0]}"
    wrong = " and ".join(f"{each.name} {each.major}.{each.minor}" for each in required if not each.met)
    if wrong:
        hint = f"Install {wrong} (or a later one of the same major version) in an environment of its own."
        return Finding(name="versions", ok=False, text=text, hint=hint)
    return Finding(name="versions", ok=True, text=text)


def clock() -> Finding:
    """Whether the time can be right: certificates, day budgets and prices depend on it."""
    now = datetime.now(UTC)
    text = f"{now:%Y-%m-%d %H:%M} UTC"
    if f"{now:%Y-%m-%d}" < ours().as_of:
        return Finding(name="clock", ok=False, text=f"{text} is before this package was made.", hint="Set the clock.")
    return Finding(name="clock", ok=True, text=text)


def choices(settings: Settings) -> list[Finding]:
    """Each setting that could not be read; or where they came from."""
    if settings.problems:
        hint = "Mend it or unset it: until then no call is made. docs/settings.md lists them all."
        return [Finding(name="settings", ok=False, text=problem, hint=hint) for problem in settings.problems]
    names = [name for name in type(settings).model_fields if settings.source_of(name) != "default"]
    sources = sorted({settings.source_of(name) for name in names})
    path = config_file()
    told = ", ".join(sources) or "all defaults"
    return [Finding(name="settings", ok=True, text=told if path.exists() else f"{told} (there is no {path})")]


def keys(settings: Settings) -> tuple[list[Finding], Credential | None]:
    """Which key is used and where it is sent; None when there is none. Blocks: the SDK may be imported."""
    try:
        credential = find(settings)
    except Misconfigured as failure:
        name = {"base_url": "base URL", "platform": "platform", "missing_extra": "platform"}.get(failure.kind, "key")
        text = str(failure).removesuffix(HOW_TO_SET).strip()
        cloudy = settings.platform != "anthropic" and failure.kind == "no_key"
        hint = HINTS["platform"] if cloudy else HINTS.get(failure.kind, HINTS["platform"])
        return [Finding(name=name, ok=False, text=text, hint=hint)], None
    key = Finding(name="key", ok=True, text=f"from {credential.source}")
    if credential.warning:
        key = replace(key, ok=None, text=f"{key.text}. {credential.warning}", hint=HINTS["malformed_key"])
    where = [] if settings.platform == "anthropic" else [Finding(name="platform", ok=True, text=credential.place)]
    return [*where, key, _base_url(credential)], credential


async def book(directory: Path) -> Finding:
    """Whether the ledger outlives the process, and is safe from others."""
    store = await anyio.to_thread.run_sync(Store.open, directory)
    try:
        (whole,) = await store.read(request_ledger.summary, time.time() - 86400, by=())
    except StoreError as error:
        return Finding(name="ledger", ok=False, text=str(error), hint="Move the file away: a new one will be made.")
    finally:
        await store.close()
    if store.path is None:
        hint = "Make the directory writable, or name another with MCP_CLAUDE_DATA_DIR."
        return Finding(name="ledger", ok=None, text=store.trouble, hint=hint)
    text = f"{store.path}, {whole.requests} requests in the last 24 hours"
    return await anyio.to_thread.run_sync(_place, directory, text)


def _place(directory: Path, text: str) -> Finding:
    """Whether the ledger is in a good place. Blocks for a moment."""
    if shutil.disk_usage(directory).free < LITTLE_SPACE:
        return Finding(name="ledger", ok=None, text=f"{text}; the disk is almost full.", hint="Make room on the disk.")
    if os.name == "posix" and directory.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        hint = f"chmod go-w {shlex.quote(str(directory))}"
        return Finding(name="ledger", ok=None, text=f"{text}; others may write to that directory.", hint=hint)
    return Finding(name="ledger", ok=True, text=text)


async def serving() -> Finding:
    """Whether the server answers a client over stdio. Started without a key and with no way out to any network."""
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
            with anyio.fail_after(PATIENCE_S):
                async with Client(stdio_client(server, errlog=silence)) as client:
                    took = time.monotonic() - began
                    tools = (await client.list_tools()).tools
        except Exception as error:  # noqa: BLE001 - a door: whatever it is, it is the finding
            text = f"The server did not answer over stdio ({type(error).__name__})."
            return Finding(
                name="server", ok=False, text=text, hint="Run mcp-server-claude by hand and read its stderr."
            )
    text = f"answers over stdio in {number_formatting.seconds(took)}, {len(tools)} tools"
    return Finding(name="server", ok=True, text=text)


def asked(settings: Settings, catalogue: Catalogue) -> list[Finding]:
    """Which model a call without one asks, and whether its price is known. Blocks: the prices are loaded."""
    try:
        model = catalogue.resolve(settings.model, default="sonnet")
    except Refused as failure:
        hint = f"Set MCP_CLAUDE_MODEL to one of {', '.join(catalogue.names_for_menu()[:4])}, or to a line such as opus."
        return [Finding(name="model", ok=False, text=str(failure), hint=hint)]
    text = model.id if model.id == settings.model else f"{model.id} (for {settings.model})"
    found = Finding(name="model", ok=True, text=text)
    if model.note:
        hint = "Set MCP_CLAUDE_MODEL to a line such as sonnet: it means the newest."
        found = replace(found, ok=None, text=f"{text}. {model.note}", hint=hint)
    elif not model.known:
        hint = "It is sent as it is; should the API refuse it, correct MCP_CLAUDE_MODEL."
        found = replace(found, ok=None, text=f"{text}, which is not in this package's list", hint=hint)
    return [found, _price(model.id), *_fallback(settings, catalogue)]


def _fallback(settings: Settings, catalogue: Catalogue) -> list[Finding]:
    """Whether there is such a model to ask instead, where one is set."""
    if not settings.fallback_model:
        return []
    try:
        model = catalogue.resolve(settings.fallback_model)
    except Refused as failure:
        hint = "Correct or unset MCP_CLAUDE_FALLBACK_MODEL."
        return [Finding(name="fallback", ok=False, text=str(failure), hint=hint)]
    return [Finding(name="fallback", ok=True, text=f"{model.id}, where the model asked for is overloaded or declines")]


def _price(model: str) -> Finding:
    rates = pricing.rates(model)
    if rates is None:
        hint = "Calls work and their cost is told as unknown; a newer genai-prices may know it."
        return Finding(name="price", ok=None, text=f"The price of {model} is unknown.", hint=hint)
    text = f"${rates.input.normalize():f} in, ${rates.output.normalize():f} out per million tokens ({pricing.as_of()})"
    return Finding(name="price", ok=True, text=text)


def _base_url(credential: Credential) -> Finding:
    try:
        parts = urlsplit(credential.base_url)
    except ValueError:
        return Finding(name="base URL", ok=False, text="It is not a URL.", hint=HINTS["base_url"])
    # Only what tells where it leads: a URL may carry a password.
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if credential.base_url == ANTHROPIC_URL:
        return Finding(name="base URL", ok=True, text=f"{shown}, Anthropic's own")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        return Finding(name="base URL", ok=None, text=f"{shown}: the key travels unencrypted.", hint="Use https://.")
    return Finding(name="base URL", ok=True, text=shown)


def _scrubbed(finding: Finding) -> Finding:
    """The last look: whatever a finding says, no key and no password of a URL is in it."""
    text, hint = (PASSWORD.sub("//", redact(each)) for each in (finding.text, finding.hint))
    return replace(finding, text=text, hint=hint)
