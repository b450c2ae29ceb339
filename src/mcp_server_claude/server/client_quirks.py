"""The table of what single MCP clients do differently, by the name and version that they give, each with its source.

The rest of the server branches on these traits and on no client's name.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal, TypeAlias

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

ClientTrait: TypeAlias = Literal[
    "shows_latest_progress",
    "truncates_results",
    "reads_first_text_only",
    "rejects_resource_links",
    "ends_calls_at_60_s",
]
"""One way in which a client differs.

* `shows_latest_progress`: it shows a person the latest progress message alone, in one line.
* `truncates_results`: results longer than `anthropic/maxResultSizeChars` do not reach its model.
* `reads_first_text_only`: its model gets only the first text block of a result.
* `rejects_resource_links`: a call fails if its result has a `resource_link` block.
* `ends_calls_at_60_s`: it ends a tool call after about 60 seconds, whatever progress it gets.
"""

DETACH_AFTER_S = 55.0
"""Seconds after which a call returns what is there to a client that ends calls at 60 s, and a task to one that takes
tasks: 60 s is the default time-out of the MCP SDK for TypeScript and of MCP Inspector (measured)."""

VERSION = re.compile(r"v?(\d+(?:\.\d+)*)")


@frozen_dataclass(kw_only=True)
class ClientQuirk:
    """A trait of the clients whose name contains `name`, in any case.

    Args:
        name: A part of the name, in lower case.
        trait: The trait.
        source: The report or the measurement, with its date.
        versions: The first and the last version that has it; None for every version.
        http_only: True if only its connections over HTTP have it.
    """

    name: str
    trait: ClientTrait
    source: str
    versions: tuple[str, str] | None = None
    http_only: bool = False

    def applies_to(self, name: str, version: str, *, over_http: bool) -> bool:
        """True if this client has the trait."""
        if self.name not in name.lower() or (self.http_only and not over_http):
            return False
        if self.versions is None:
            return True
        first, last = (_parse_version(each) for each in self.versions)
        return first <= _parse_version(version) <= last


CLIENT_QUIRKS = (
    ClientQuirk(
        name="claude-code",
        trait="shows_latest_progress",
        source="measured with 2.1.197 and 2.1.329 on 2026-11-20: one line of 199 characters, repainted every 0.6 s",
    ),
    ClientQuirk(
        name="claude-ai",
        trait="shows_latest_progress",
        source="Claude Desktop; assumed to show progress as Claude Code does, not measured",
    ),
    ClientQuirk(
        name="inspector",
        trait="shows_latest_progress",
        source="measured with MCP Inspector 2.12.0 on 2026-11-20: a toast with the latest message",
    ),
    ClientQuirk(
        name="claude-code",
        trait="truncates_results",
        source="measured with 2.1.197 and 2.1.329 on 2026-11-20: at most 500,000 characters, the rest goes to a file",
    ),
    ClientQuirk(
        name="claude-code",
        trait="reads_first_text_only",
        versions=("2.1.233", "2.1.245"),
        http_only=True,
        source="https://github.com/anthropics/claude-code/issues/89630, 2026-08-25; 2.1.332 was seen to read all",
    ),
    ClientQuirk(
        name="codex",
        trait="rejects_resource_links",
        source="https://github.com/openai/codex/issues/33404, 2026-07-15, and issues/41280, 2026-08-28: "
        "'Unexpected response type'",
    ),
    ClientQuirk(
        name="claude-ai",
        trait="ends_calls_at_60_s",
        source="Claude Desktop: https://github.com/anthropics/claude-code/issues/22542 and issues/63379, 2026-05-28",
    ),
    ClientQuirk(
        name="anthropic/claudeai",
        trait="ends_calls_at_60_s",
        source="connectors of claude.ai: https://github.com/anthropics/claude-ai-mcp/issues/115, 2026-07-10",
    ),
)

ARGUMENTS_ADDED_BY_CLIENTS: Mapping[str, str] = {
    "toolCallId": "n8n: https://github.com/n8n-io/n8n/issues/21500, 2025-11-03",
    "sessionId": "n8n passes on the fields of its chat trigger: https://github.com/n8n-io/n8n/issues/22787, 2025-12-05",
    "action": "n8n, as above",
    "chatInput": "n8n, as above",
    "wait_for_previous": "Gemini CLI: https://github.com/MemPalace/mempalace/issues/816, 2026-04-13",
}
"""Arguments that clients add to every tool call, with their source. They mean nothing here. They are dropped for every
client, because a gateway in between has another name than the client."""


def client_traits(name: str, version: str, *, over_http: bool) -> frozenset[ClientTrait]:
    """The traits of a client by the name and version of its `clientInfo`."""
    return frozenset(quirk.trait for quirk in CLIENT_QUIRKS if quirk.applies_to(name, version, over_http=over_http))


def detach_delay_s(configured: float | None, traits: frozenset[ClientTrait], *, accepts_tasks: bool = False) -> float:
    """Seconds after which a call returns and runs on, as a task for a client that accepts these; 0 for never.

    A setting takes precedence.
    """
    if configured is not None:
        return configured
    return DETACH_AFTER_S if accepts_tasks or "ends_calls_at_60_s" in traits else 0.0


def max_wait_s(traits: frozenset[ClientTrait]) -> float:
    """Seconds that a client waits for the result of any tool."""
    return DETACH_AFTER_S if "ends_calls_at_60_s" in traits else math.inf


def _parse_version(version: str) -> tuple[int, ...]:
    """The numbers of a version, e.g. (2, 1, 233); empty, and so before all others, if it does not begin with one."""
    found = VERSION.match(version)
    return tuple(int(part[:9]) for part in found[1].split(".")) if found else ()
