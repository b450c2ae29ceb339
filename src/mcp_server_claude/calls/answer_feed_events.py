"""Events that a reader of an answer receives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.call_types import OutputFile
    from mcp_server_claude.errors import CallError

FeedState: TypeAlias = Literal["waiting", "reading", "thinking", "searching", "writing", "going"]
"""What a call is at: `reading` its input, `going` on after a stream that broke."""


@frozen_dataclass()
class StartEvent:
    """The call, its thread, and its model: the requested one until the response names it."""

    call: str
    thread: str
    model: str


class TextEvent(NamedTuple):
    """More of the answer's text. A tuple, as `FeedEvent` is: there is one for each delta."""

    text: str


@frozen_dataclass()
class StatusEvent:
    """The state of the call. `text` is one line for a person, or empty; `until` the unix time that it waits for."""

    state: FeedState
    text: str = ""
    until: float | None = None


@frozen_dataclass()
class KeepAliveEvent:
    """Nothing is new for a while: something has to be sent, so that proxies do not close the connection."""


@frozen_dataclass()
class UsageEvent:
    """The usage of the call, as `Usage.as_json` has it."""

    usage: Mapping[str, object]


@frozen_dataclass()
class ErrorEvent:
    """There is no more to come, and why."""

    failure: CallError


@frozen_dataclass()
class DoneEvent:
    """The last event, always. `notes` are sentences for the reader, known while the answer is fresh; `files` what code
    has made.
    """

    complete: bool
    incomplete: str = ""
    stop_reason: str | None = None
    notes: tuple[str, ...] = ()
    files: tuple[OutputFile, ...] = ()


FeedPayload: TypeAlias = StartEvent | TextEvent | StatusEvent | KeepAliveEvent | UsageEvent | ErrorEvent | DoneEvent


class FeedEvent(NamedTuple):
    """One event; `offset` is how many characters of the answer its reader has with it."""

    offset: int
    event: FeedPayload
