"""The outcome of an item from that of its call, and whether an error concerns one item or the whole job."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from mcp_server_claude.errors import CallError, ConfigurationError, TemporaryError, internal_error
from mcp_server_claude.lone_surrogates import replace_lone_surrogates, without_lone_surrogates
from mcp_server_claude.store.job_items import ItemOutcome

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Reply
    from mcp_server_claude.calls.running_call import RunningCall

JOB_ERROR_KINDS = frozenset({"budget", "job_budget"})
"""Errors, in addition to those that the operator must fix, that every other item would meet."""


def item_bug_error() -> CallError:
    """The error of an item that met a bug; the log has its traceback."""
    return TemporaryError("A bug in mcp-server-claude ended it.", kind="internal")


def stops_job(error: CallError) -> bool:
    """Return True for an error that every other item would meet too: a wrong key, or a budget that is used up."""
    return error.kind in JOB_ERROR_KINDS or (isinstance(error, ConfigurationError) and error.kind != "internal")


def outcome_of_call(running: RunningCall) -> ItemOutcome:
    """The outcome of a call that has ended. A stopped one keeps the text that it has."""
    call_id = running.call.id
    if running.outcome is None:  # a bug, which the engine has logged
        return outcome_of_error(call_id, internal_error(call_id))
    outcome = outcome_of_answer(call_id, running.outcome, cancelled=running.was_stopped)
    if not running.traceparent:
        return outcome
    return replace(outcome, annotations={**(outcome.annotations or {}), "traceparent": running.traceparent})


def outcome_of_answer(call_id: str, answer: Reply | CallError, *, cancelled: bool = False) -> ItemOutcome:
    """The outcome of a call with this answer, or with this error in place of one."""
    if isinstance(answer, CallError):
        return outcome_of_error(call_id, answer, cancelled=cancelled)
    return ItemOutcome(
        state="cancelled" if cancelled else "done",
        call_id=call_id,
        text=replace_lone_surrogates(answer.text),
        is_json=answer.structured_output is not None,
        note=replace_lone_surrogates(answer.incomplete),
        usage=answer.usage.as_json(),
        annotations=_annotations_of(answer),
    )


def _annotations_of(answer: Reply) -> dict[str, object] | None:
    """The notes and citations of an answer, None without any."""
    values: dict[str, object] = {
        "notes": [replace_lone_surrogates(note) for note in answer.notes],
        "citations": [without_lone_surrogates(asdict(each)) for each in answer.citations],
    }
    return {name: value for name, value in values.items() if value} or None


def outcome_of_error(call_id: str, error: CallError, *, cancelled: bool = False) -> ItemOutcome:
    """The outcome of an item without an answer."""
    return ItemOutcome(
        state="cancelled" if cancelled else "failed",
        call_id=call_id,
        usage=None if error.usage is None else error.usage.as_json(),
        error={"message": replace_lone_surrogates(str(error)), **error.as_json()},
    )
