"""The next step of a call after a stream has ended. Pure: no clock, no randomness, no input or output.

    end of the stream                              next step
    `tool_use` of the file tools                   `RunTools`, at most `MAX_TOOL_ROUNDS` times
    `pause_turn`                                   `ResumePause`, at most `MAX_PAUSE_TURNS` times
    any other stop reason                          `Finish`
    error, no text so far                          `Retry`: the same request again
    error after text, nothing but text came        `Continue`: a request for the rest, at most `MAX_CONTINUATIONS` times
    error after text, server tools were used       `Finish` with the error; the text so far is incomplete
    error that no retry can fix, or too late       `Finish` with the error

With a schema no text counts before the answer is complete, so the step after an error is always `Retry`. In an open
turn (after `RunTools` or `ResumePause`) the next request repeats everything that came before, so an error is retried
only while its stream brought no text.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING, TypeAlias

from mcp_server_claude.engine import retry_policy
from mcp_server_claude.errors import TemporaryError
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from mcp_server_claude.call_types import StopReason
    from mcp_server_claude.errors import CallError

MAX_PAUSE_TURNS = 10
"""Paused turns that are resumed: each is a request, and a turn that always pauses must end."""
MAX_CONTINUATIONS = 10
"""Continuations of a broken answer: each pays for the whole prompt again."""
MAX_TOOL_ROUNDS = 40
"""Rounds of file tools: each is a request with everything that came before."""
MAX_THINKING_TIMEOUTS = 1
"""Retries after a stream that timed out while Claude was thinking: thinking is paid for."""


@frozen_dataclass(kw_only=True)
class LoopProgress:
    """The counts by which a loop ends. `failing_since_s` is the time of the first of `failures` errors in a row, in
    seconds since the call began.
    """

    failures: int = 0
    failing_since_s: float = 0.0
    pause_turns: int = 0
    tool_rounds: int = 0
    continuations: int = 0
    thinking_timeouts: int = 0


@frozen_dataclass(kw_only=True)
class StreamEnd:
    """The end of one stream.

    Args:
        stop_reason: The API's stop reason; None when the stream broke.
        error: The error that ended the stream or prevented it; None when the connection just closed.
        elapsed_s: Seconds since the call began.
        has_text: The answer has text so far, over all streams, that a reader has seen or may see.
        text_grew: This stream added to that text.
        has_only_text: Nothing but text came in this stream, so that its end can be repeated.
        has_thinking: Thinking came in this stream.
        in_open_turn: The request continued a turn that had ended with `pause_turn` or `tool_use`.
    """

    stop_reason: StopReason | None = None
    error: CallError | None = None
    elapsed_s: float = 0.0
    has_text: bool = False
    text_grew: bool = False
    has_only_text: bool = True
    has_thinking: bool = False
    in_open_turn: bool = False


@frozen_dataclass(kw_only=True)
class LoopPolicy:
    """The rules of one call: when to retry, `has_file_tools` if Claude may use ours, `has_schema` if the answer is JSON
    that cannot be continued.
    """

    retry: retry_policy.RetryPolicy = field(default_factory=retry_policy.RetryPolicy)
    has_file_tools: bool = False
    has_schema: bool = False


@frozen_dataclass(kw_only=True)
class Finish:
    """The call is over: complete, incomplete, or failed with `error`."""

    error: CallError | None = None


@frozen_dataclass(kw_only=True)
class Retry:
    """The same request again, after `delay_s` seconds."""

    progress: LoopProgress
    delay_s: float
    error: CallError


@frozen_dataclass(kw_only=True)
class Continue:
    """A request for the rest of the text, after `delay_s` seconds."""

    progress: LoopProgress
    delay_s: float
    error: CallError


@frozen_dataclass(kw_only=True)
class ResumePause:
    """The paused turn goes back unchanged."""

    progress: LoopProgress


@frozen_dataclass(kw_only=True)
class RunTools:
    """The file tools run, and their results are the next message."""

    progress: LoopProgress


NextStep: TypeAlias = Finish | Retry | Continue | ResumePause | RunTools


def decide(progress: LoopProgress, ended: StreamEnd, policy: LoopPolicy, jitter: float) -> NextStep:
    """The step after a stream; see the table of this module.

    Args:
        progress: The counts before this stream.
        ended: How the stream ended.
        policy: The rules of the call.
        jitter: A random number in [0, 1), which spreads the retries of many calls.
    """
    if ended.stop_reason is not None:
        return _after_stop(progress, ended.stop_reason, policy)
    error = ended.error or TemporaryError("The connection ended before the answer did.", kind="truncated")
    continues = ended.has_text and not ended.in_open_turn and not policy.has_schema
    counted = _count_failure(progress, ended, continues=continues)
    if _is_exhausted(counted, ended, continues=continues):
        return Finish(error=error)
    delay_s = retry_policy.backoff_delay(policy.retry, _failure_state(counted, ended, error), jitter)
    if delay_s is None:
        return Finish(error=error)
    return (Continue if continues else Retry)(progress=counted, delay_s=delay_s, error=error)


def _after_stop(progress: LoopProgress, stop_reason: StopReason, policy: LoopPolicy) -> NextStep:
    if stop_reason == "pause_turn" and progress.pause_turns < MAX_PAUSE_TURNS:
        return ResumePause(progress=replace(progress, failures=0, pause_turns=progress.pause_turns + 1))
    if stop_reason == "tool_use" and policy.has_file_tools and progress.tool_rounds < MAX_TOOL_ROUNDS:
        return RunTools(progress=replace(progress, failures=0, tool_rounds=progress.tool_rounds + 1))
    return Finish()


def _count_failure(progress: LoopProgress, ended: StreamEnd, *, continues: bool) -> LoopProgress:
    """The progress with this error counted. A stream that brought text to keep starts a new row of failures."""
    is_first = not progress.failures or (ended.text_grew and continues)
    timed_out = ended.error is not None and ended.error.kind == "stream_timeout" and ended.has_thinking
    return replace(
        progress,
        failures=1 if is_first else progress.failures + 1,
        failing_since_s=ended.elapsed_s if is_first else progress.failing_since_s,
        continuations=progress.continuations + continues,
        thinking_timeouts=progress.thinking_timeouts + (timed_out and not continues),
    )


def _is_exhausted(counted: LoopProgress, ended: StreamEnd, *, continues: bool) -> bool:
    """True if no further request is allowed, however long the wait."""
    if continues:
        return not ended.has_only_text or counted.continuations > MAX_CONTINUATIONS
    if ended.in_open_turn and ended.text_grew:
        return True
    return counted.thinking_timeouts > MAX_THINKING_TIMEOUTS


def _failure_state(counted: LoopProgress, ended: StreamEnd, error: CallError) -> retry_policy.FailureState:
    return retry_policy.FailureState(
        kind=error.kind,
        retryable=error.retryable and error.kind != "deadline",
        failures=counted.failures,
        failing_for_s=ended.elapsed_s - counted.failing_since_s,
        elapsed_s=ended.elapsed_s,
        retry_after_s=error.retry_after_s,
        should_retry=error.should_retry,
    )
