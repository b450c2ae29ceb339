"""What a reader of an answer is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.call_types import Produced
    from mcp_server_claude.errors import Failure

State: TypeAlias = Literal["waiting", "reading", "thinking", "searching", "writing", "going"]
"""What a call is at: `reading` its input, `going` on after a stream that broke."""


@dataclass(frozen=True, slots=True)
class Start:
    """The call that is read, its conversation, and its model, or what was asked for until that is known."""

    call: str
    thread: str
    model: str


@dataclass(frozen=True, slots=True)
class Piece:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Status:
    """What the call is at. `text` is one line for a person, or empty; `until` the unix time that it waits for."""

    state: State
    text: str = ""
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """What the call took, as `Usage.as_json` has it."""

    usage: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no more to come, and why."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class End:
    """The last event, always. `notes` are sentences for the reader, known while the answer is fresh; `files` what code
    has made.
    """

    complete: bool
    incomplete: str = ""
    stop_reason: str | None = None
    notes: tuple[str, ...] = ()
    files: tuple[Produced, ...] = ()


Telling: TypeAlias = Start | Piece | Status | Account | Failed | End


@dataclass(frozen=True, slots=True)
class Told:
    """One event; `offset` is how many characters of the answer its reader has with it."""

    offset: int
    event: Telling
