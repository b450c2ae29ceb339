"""The journal of one call: its text, saved about once a second, so that what was paid for can be read again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.store import call_journal, process_locks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.call_types import Call, Usage
    from mcp_server_claude.engine.answer_buffer import AnswerBuffer
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.request_ledger import EndStatus


class JournalWriter:
    """Posts, never waits: the writes of a call happen in their order, and a journal that fails stops no answer."""

    def __init__(self, store: Store, worker: str, call: Call, answer_buffer: AnswerBuffer, *, model: str) -> None:
        self._store = store
        self._call = call
        self._answer_buffer = answer_buffer
        now = time.time()
        begun = call_journal.JournaledCall(
            id=call.id,
            worker=worker,
            started_at=now,
            user=call.user,
            client=call.client,
            tool=call.tool,
            source=call.source,
            thread=call.thread or None,
            model=model,
            prompt_head=" ".join(call.prompt[:400].split()),
        )
        store.write_nowait(_open_call, begun)

    def save_text(self) -> None:
        """Keep what is new."""
        offset, text = self._answer_buffer.take_unsaved()
        if text:
            self._store.write_nowait(call_journal.append_text, [(self._call.id, offset, replace_lone_surrogates(text))])

    def close_journal(
        self, end: EndStatus, usage: Usage, incomplete: str = "", error: Mapping[str, object] | None = None
    ) -> None:
        """Keep the rest, and how it ended."""
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


def _open_call(tx: Transaction, call: call_journal.JournaledCall) -> None:
    process_locks.register_process(tx, call.worker)
    call_journal.open_call(tx, call)
