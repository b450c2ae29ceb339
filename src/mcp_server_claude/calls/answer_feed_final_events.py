"""The last events of an answer, however it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.call_types import Reply
from mcp_server_claude.calls.answer_feed_events import DoneEvent, ErrorEvent, UsageEvent
from mcp_server_claude.errors import CallError, ConfigurationError, RequestError, TemporaryError

if TYPE_CHECKING:
    from mcp_server_claude.calls.answer_feed_events import FeedPayload
    from mcp_server_claude.store import call_journal


def events_for_outcome(outcome: Reply | CallError | None) -> list[FeedPayload]:
    """The last events of a call that came to this; None where the server ends before the call does."""
    match outcome:
        case Reply(usage=usage):
            end = DoneEvent(usage.complete, outcome.incomplete, usage.stop_reason, outcome.notes)
            return [UsageEvent(usage.as_json()), end]
        case None:
            return events_for_outcome(shutdown_error())
        case CallError(usage=usage) as failure:
            account = [] if usage is None else [UsageEvent(usage.as_json())]
            return [
                *account,
                ErrorEvent(failure),
                DoneEvent(complete=False, stop_reason=usage.stop_reason if usage else None),
            ]


def events_for_journaled_call(record: call_journal.JournaledCall) -> list[FeedPayload]:
    """The last events of a call that the journal has as ended."""
    failure: CallError | None = None
    if record.end == "failed":
        failure = _journaled_error(record)
    elif record.end == "interrupted":
        saved = "The saved text is above; ask for the rest in the same thread."
        why = f"{record.incomplete} {saved if record.chars else 'No text was saved.'}"
        failure = TemporaryError(why, kind="interrupted")
    elif record.end == "cancelled" and not record.chars:
        failure = RequestError("The call was stopped before any text came.", kind="cancelled")
    usage = record.usage or {}
    reason = usage.get("stop_reason")
    end = DoneEvent(
        complete=record.end == "complete",
        incomplete="" if failure else record.incomplete,
        stop_reason=reason if isinstance(reason, str) else None,
    )
    return [*([UsageEvent(usage)] if usage else []), *([ErrorEvent(failure)] if failure else []), end]


def _journaled_error(record: call_journal.JournaledCall) -> CallError:
    """A failure as it was when it happened."""
    fields = record.failure or {"class": "temporary_error", "kind": "api_error"}
    classes: dict[object, type[CallError]] = {each.class_name: each for each in (RequestError, ConfigurationError)}
    after, request = fields.get("retry_after_s"), fields.get("request_id")
    return classes.get(fields.get("class"), TemporaryError)(
        record.incomplete,
        kind=str(fields.get("kind")),
        retry_after_s=after if isinstance(after, float | int) else None,
        request_id=request if isinstance(request, str) else None,
    )


def shutdown_error() -> TemporaryError:
    """The server ends before the call does."""
    return TemporaryError("The server is shutting down. The text so far can be read by the call's id.", kind="shutdown")


def offset_too_large(chars: int) -> RequestError:
    """A reader says that they have more than there is."""
    return RequestError(
        f"Only {chars:,} characters of the answer were stored. Read it again from its start.", kind="truncated"
    )


def text_missing() -> RequestError:
    """A part in the middle was never written, e.g. on a full disk."""
    return RequestError("Part of the answer was not stored, so the rest cannot be shown.", kind="truncated")


def text_deleted() -> RequestError:
    """The error for text that was deleted: delivered, too old, or erased."""
    return RequestError("The text of that call was deleted.", kind="not_found")
