"""The journal of one call: its text, saved about once a second, so that what was paid for can be read again."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server_claude.call_types import Usage
from mcp_server_claude.errors import internal_error, local_resource_error
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.store import call_journal, process_locks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.call_types import Call
    from mcp_server_claude.engine.answer_buffer import AnswerBuffer
    from mcp_server_claude.errors import CallError
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.request_ledger import EndStatus

_log = logging.getLogger(__name__)


class JournalWriter:
    """Posts, never waits: the writes of a call happen in their order, and a journal that fails stops no answer."""

    def __init__(self, store: Store, worker: str, call: Call, answer_buffer: AnswerBuffer, *, model: str) -> None:
        self._store = store
        self._call = call
        self._answer_buffer = answer_buffer
        store.write_nowait(_open_call, _journaled_call(call, worker, model))

    def save_text(self) -> None:
        """Save the text since the last call of this method."""
        offset, text = self._answer_buffer.take_unsaved()
        if text:
            self._store.write_nowait(call_journal.append_text, [(self._call.id, offset, replace_lone_surrogates(text))])

    def close_journal(
        self, end: EndStatus, usage: Usage, incomplete: str = "", error: Mapping[str, object] | None = None
    ) -> None:
        """Save the rest of the text, and the end of the call."""
        self.save_text()
        self._store.write_nowait(
            call_journal.close_call,
            self._call.id,
            end=end,
            ended_at=time.time(),
            incomplete=incomplete,
            usage=dict(usage.as_json()),
            failure=error,
        )


def logged_internal_error(call_id: str) -> CallError:
    """Log the exception that is being handled, and return the error that a client gets in its place.

    It is a bug, unless a resource of this machine ran out, which is worth one line.
    """
    if failure := local_resource_error(sys.exception()):
        _log.error("the call %s ended: %s", call_id, failure)
        return failure
    _log.exception("a bug ended the call %s", call_id)
    return internal_error(call_id)


def journal_bug(store: Store, worker: str, call: Call, usage: Usage | None = None) -> CallError:
    """Log the exception that is being handled, and close the call's journal as failed, also one that was never opened.

    Returns the error that a client gets, with the usage of the call.
    """
    if usage is None:
        usage = Usage(call_id=call.id, user=call.user, thread=call.thread or None, trace_id=call.trace_id)
    error = logged_internal_error(call.id).with_usage(usage)
    store.write_nowait(_open_and_fail, _journaled_call(call, worker, call.model), error)
    return error


def record_ended_call(  # its outcome in parts, as `call_journal` keeps it
    tx: Transaction,
    call: Call,
    worker: str,
    *,
    started_at: float,
    end: EndStatus,
    text: str,
    usage: Usage | None,
    incomplete: str = "",
    failure: Mapping[str, object] | None = None,
) -> None:
    """Write a call that has ended as a whole, such as an answer of a message batch."""
    process_locks.register_process(tx, worker)
    call_journal.open_call(tx, replace(_journaled_call(call, worker, call.model), started_at=started_at))
    if text:
        call_journal.append_text(tx, [(call.id, 0, replace_lone_surrogates(text))])
    call_journal.close_call(
        tx,
        call.id,
        end=end,
        ended_at=time.time(),
        incomplete=incomplete,
        usage=None if usage is None else dict(usage.as_json()),
        failure=failure,
    )


def _journaled_call(call: Call, worker: str, model: str) -> call_journal.JournaledCall:
    return call_journal.JournaledCall(
        id=call.id,
        worker=worker,
        started_at=time.time(),
        user=call.user,
        client=call.client,
        tool=call.tool,
        source=call.source,
        thread=call.thread or None,
        model=model,
        job_id=call.job_id or None,
        prompt_head=" ".join(call.prompt[:400].split()),
    )


def _open_and_fail(tx: Transaction, call: call_journal.JournaledCall, error: CallError) -> None:
    if call_journal.find_call(tx, call.id, call.user) is None:
        _open_call(tx, call)
    usage = None if error.usage is None else dict(error.usage.as_json())
    call_journal.close_call(
        tx,
        call.id,
        end="failed",
        ended_at=time.time(),
        incomplete=str(error),
        usage=usage,
        failure=error.as_json(),
    )


def _open_call(tx: Transaction, call: call_journal.JournaledCall) -> None:
    tx.execute_all([process_locks.registration(call.worker), call_journal.opening(call)])
