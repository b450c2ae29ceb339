"""The journal: the text as it was written, for its user alone, until it is forgotten."""

from __future__ import annotations

import tracemalloc
from contextlib import closing
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server_claude.store import call_journal, process_locks
from mcp_server_claude.store.call_journal import JournaledCall
from mcp_server_claude.store.sqlite_connection import SqliteTransaction, open_in_memory
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from mcp_server_claude.store import Transaction
    from mcp_server_claude.store.request_ledger import EndStatus

ONE = JournaledCall(
    id="c_1", worker="w", started_at=100.0, prompt_head="Why is the sky blue?", usage={"model": "x", "n": 1}
)


@settings(deadline=None)
@given(pieces=st.lists(st.text(min_size=1)))
def test_the_text_is_what_was_appended_however_it_was_cut_ordered_or_repeated(pieces: list[str]) -> None:
    answer = "".join(pieces)
    offsets = accumulate(map(len, pieces), initial=0)
    chunks = [("c_1", off, piece) for off, piece in zip(offsets, pieces, strict=False)]
    with closing(open_in_memory()) as connection:
        tx = SqliteTransaction(connection)
        for call_id in ("c_1", "c_2"):
            call_journal.open_call(tx, replace(ONE, id=call_id))
        call_journal.append_text(tx, [each for chunk in chunks for each in (chunk, ("c_2", chunk[1], "other"), chunk)])
        call_journal.append_text(tx, chunks[::-1])
        assert call_journal.answer_text(tx, "c_1") == answer
        call = call_journal.find_call(tx, "c_1", "local")
        assert call is not None
        assert call.chars == len(answer)


def test_a_long_text_is_stored_in_short_rows_and_read_from_any_offset(tx: Transaction) -> None:
    text = "".join(map(str, range(60_000)))
    call_journal.open_call(tx, ONE)
    for _ in range(2):  # the second changes nothing
        call_journal.append_text(tx, [("c_1", 0, text[:10]), ("c_1", 10, text[10:])])
    assert max(tx.fetch_all(scalar, "select length(text) from chunk")) == call_journal.MAX_CHUNK_CHARS
    assert call_journal.answer_text(tx, "c_1") == text
    for offset in (0, 9, 10, 11, 65_546, 100_000, len(text)):
        found = call_journal.text_from_offset(tx, "c_1", "local", offset)
        assert found is not None
        assert (found.text, found.missing) == (text[offset:], 0)


def test_the_rows_of_a_long_text_are_not_in_memory_together() -> None:
    text = "x" * (100 * call_journal.MAX_CHUNK_CHARS)
    with closing(open_in_memory()) as connection:
        tx = SqliteTransaction(connection)
        call_journal.open_call(tx, ONE)
        tracemalloc.start()
        try:
            call_journal.append_text(tx, [("c_1", 0, "short"), ("c_1", 5, text)])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert call_journal.answer_text(tx, "c_1") == f"short{text}"
    assert peak < 10 * call_journal.MAX_CHUNK_CHARS


def test_a_call_is_read_as_it_was_opened_and_only_by_its_user(tx: Transaction) -> None:
    call_journal.open_call(tx, ONE)
    assert call_journal.find_call(tx, "c_1", "local") == ONE
    assert call_journal.find_call(tx, "c_1", "ada") is None
    assert call_journal.find_call(tx, "c_2", "local") is None


def test_only_the_opening_words_of_a_prompt_are_stored(tx: Transaction) -> None:
    call_journal.open_call(tx, replace(ONE, prompt_head="x" * 5000))
    call = call_journal.find_call(tx, "c_1", "local")
    assert call is not None
    assert call.prompt_head == "x" * 200


def test_a_call_is_closed_exactly_once(tx: Transaction) -> None:
    call_journal.open_call(tx, ONE)
    assert call_journal.close_call(
        tx, "c_1", end="incomplete", ended_at=110.0, incomplete="Cut.", usage={"cost_usd": None}
    )
    assert not call_journal.close_call(tx, "c_1", end="complete", ended_at=120.0)
    assert call_journal.find_call(tx, "c_1", "local") == replace(
        ONE, state="closed", end="incomplete", ended_at=110.0, incomplete="Cut.", usage={"cost_usd": None}
    )


def test_a_call_of_a_dead_process_is_closed_and_its_text_is_kept(tx: Transaction) -> None:
    process_locks.register_process(tx, "living")
    for worker, call_id in (("w", "c_1"), ("living", "c_2")):
        call_journal.open_call(tx, replace(ONE, id=call_id, worker=worker))
    call_journal.append_text(tx, [("c_1", 0, "Because")])
    assert call_journal.close_orphaned_calls(tx, 131.0) == ["c_1"]
    call = call_journal.find_call(tx, "c_1", "local")
    assert call is not None
    assert (call.end, call.ended_at, call.incomplete, call.chars) == (
        "interrupted",
        131.0,
        call_journal.SERVER_ENDED,
        7,
    )
    assert call_journal.answer_text(tx, "c_1") == "Because"
    assert call_journal.close_call(tx, "c_1", end="complete", ended_at=140.0)  # its process was alive after all
    assert not call_journal.close_call(tx, "c_1", end="failed", ended_at=150.0)
    call = call_journal.find_call(tx, "c_1", "local")
    assert call is not None
    assert (call.end, call.ended_at, call.incomplete) == ("complete", 140.0, "")


def test_the_newest_calls_are_listed_with_the_undelivered_ones_first(tx: Transaction) -> None:
    ends: tuple[EndStatus | None, ...] = ("interrupted", "complete", "cancelled", "failed", None)
    for n, end in enumerate(ends):
        call_journal.open_call(tx, replace(ONE, id=f"c_{n}", started_at=100.0 + n))
        if end:
            call_journal.close_call(tx, f"c_{n}", end=end, ended_at=200.0)
    call_journal.open_call(tx, replace(ONE, id="c_other", user="ada"))
    assert [call.id for call in call_journal.recent_calls(tx, "local")] == ["c_2", "c_0", "c_4", "c_3", "c_1"]
    assert [call.id for call in call_journal.recent_calls(tx, "local", limit=3)] == ["c_2", "c_4", "c_3"]
    assert call_journal.recent_calls(tx, "nobody") == []


def test_text_for_a_call_without_a_row_is_ignored(tx: Transaction) -> None:
    call_journal.open_call(tx, ONE)
    call_journal.append_text(tx, [("c_gone", 0, "lost"), ("c_1", 0, "kept"), ("c_1", 4, "")])
    assert (call_journal.answer_text(tx, "c_gone"), call_journal.answer_text(tx, "c_1")) == ("", "kept")


def test_stored_text_is_never_overwritten(tx: Transaction) -> None:
    call_journal.open_call(tx, ONE)
    call_journal.append_text(tx, [("c_1", 0, "first"), ("c_1", 0, "other")])
    assert call_journal.answer_text(tx, "c_1") == "first"


def test_old_calls_are_deleted_except_for_their_usage(tx: Transaction) -> None:
    for call_id, ended_at in (("c_1", 200.0), ("c_2", 300.0), ("c_3", None)):
        call_journal.open_call(tx, replace(ONE, id=call_id))
        call_journal.append_text(tx, [(call_id, 0, "Because")])
        if ended_at:
            why = "The API says: Because what?"
            call_journal.close_call(
                tx, call_id, end="failed", ended_at=ended_at, incomplete=why, usage={"output_tokens": 1}
            )
    assert call_journal.delete_old_text(tx, 250.0) == 1
    assert call_journal.delete_old_text(tx, 250.0) == 0
    assert [call_journal.answer_text(tx, call_id) for call_id in ("c_1", "c_2", "c_3")] == ["", "Because", "Because"]
    call = call_journal.find_call(tx, "c_1", "local")
    assert call is not None
    assert (call.prompt_head, call.chars, call.usage) == ("", 7, {"output_tokens": 1})
    assert call.incomplete == call_journal.TEXT_DELETED


def test_a_delivered_answer_can_be_discarded_at_once(tx: Transaction) -> None:
    for call_id in ("c_1", "c_2"):
        call_journal.open_call(tx, replace(ONE, id=call_id))
        call_journal.append_text(tx, [(call_id, 0, "Because")])
    call_journal.delete_text(tx, "c_1")
    assert [call_journal.answer_text(tx, call_id) for call_id in ("c_1", "c_2")] == ["", "Because"]
