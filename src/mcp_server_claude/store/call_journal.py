"""The journal of calls: each call's text while it streams, so that a paid answer survives a crash or a cancel."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mcp_server_claude.store.request_ledger import EndStatus, EntryState
    from mcp_server_claude.store.transaction import Statement, Transaction

MAX_PROMPT_HEAD_CHARS = 200
MAX_CHUNK_CHARS = 64 * 1024
"""Characters in one row. SQLite copies a value twice to write it, and keeps one copy until the next one."""
SERVER_ENDED = "The server ended before the answer was finished."
TEXT_DELETED = "The text was deleted."
"""Replaces the reason why an answer is incomplete, which can quote the API, and the API can quote the prompt."""


@frozen_dataclass(kw_only=True)
class JournaledCall:
    """One call in the journal. Times are unix seconds, `chars` is the length of the text so far in characters.

    `prompt_head` holds the prompt's first words, `incomplete` one sentence on why the answer is incomplete, `usage` the
    call's usage and `failure` the error's fields for programs, both as JSON values.
    """

    id: str
    worker: str
    started_at: float
    user: str = "local"
    client: str = ""
    tool: str = ""
    source: str = ""
    thread: str | None = None
    model: str = ""
    prompt_head: str = ""
    state: EntryState = "open"
    end: EndStatus | None = None
    incomplete: str = ""
    usage: Mapping[str, object] | None = None
    failure: Mapping[str, object] | None = None
    ended_at: float | None = None
    chars: int = 0
    job_id: str | None = None


@frozen_dataclass(kw_only=True)
class TextFromOffset:
    """A call and its text from an offset on.

    `missing` characters at the end of the text are not there: deleted, or never written.
    """

    call: JournaledCall
    text: str
    missing: int = 0


_COLUMNS = tuple(field.name for field in fields(JournaledCall))
_QUOTED = ", ".join(f'"{name}"' for name in _COLUMNS)
_BOUND = ", ".join(f":{name}" for name in _COLUMNS)
# The names in these statements are the fields above. Every value is bound.
_OPEN = f"insert into call ({_QUOTED}) values ({_BOUND}) on conflict (id) do nothing"  # noqa: S608
"""Runs again where the connection was lost before the server could confirm its commit."""
_CALL = f'select {_QUOTED} from call where id = :id and "user" = :user'  # noqa: S608
_RECENT_CALLS = f"""
select {_QUOTED} from (
    select * from call where "user" = :user and job_id is null order by started_at desc, id desc limit :limit
) as newest
order by case when "end" in ('interrupted', 'cancelled') then 0 else 1 end, started_at desc, id desc
"""  # noqa: S608
_CLOSE = """
update call set state = 'closed', "end" = :end, ended_at = :ended_at, incomplete = :incomplete, usage = :usage,
failure = :failure
where id = :id and (state = 'open' or "end" = 'interrupted')
"""
_INTERRUPT = """
update call set "end" = 'interrupted', incomplete = :why where id = :id and "end" = 'cancelled'
"""
_CLOSE_ORPHANS = """
update call set state = 'closed', "end" = 'interrupted', ended_at = :now, incomplete = :why
where state = 'open' and not exists (select 1 from process where process.id = call.worker)
returning id
"""
_EXTEND = "update call set chars = case when chars < :until then :until else chars end where id = :id"
_CHUNK = """
insert into chunk (call_id, off, text) select :id, :off, :text where exists (select 1 from call where id = :id)
on conflict (call_id, off) do nothing
"""
_CHUNKS_FROM = """
select off, text from chunk where call_id = :id
and off >= coalesce((select max(off) from chunk where call_id = :id and off <= :offset), 0) order by off
"""
_REQUEST_STOP = "update call set stop_requested = 1 where id = :id and \"user\" = :user and state = 'open'"
_STOP_REQUESTS = "select id from call where worker = :worker and state = 'open' and stop_requested <> 0"
_OPEN_IN_THREAD = """
select id from call where thread = :thread and "user" = :user and state = 'open' order by started_at, id limit 1
"""
_ENDED_BEFORE = "select id from call where state = 'closed' and ended_at < :before"
HAS_TEXT = "(prompt_head <> '' or incomplete not in ('', :deleted))"
CLEAR_TEXT = "prompt_head = '', incomplete = case when incomplete = '' then '' else :deleted end"
"""Assignments for `set`. Both need the parameter `deleted`, which is `TEXT_DELETED`."""


def open_call(tx: Transaction, call: JournaledCall) -> None:
    """Write a call before its first request.

    Belongs in one transaction with `process_locks.register_process` of its worker, else it counts as orphaned.
    """
    tx.execute(*opening(call))


def opening(call: JournaledCall) -> Statement:
    """Return the statement of `open_call`."""
    row = {name: getattr(call, name) for name in _COLUMNS}
    row |= {
        "prompt_head": call.prompt_head[:MAX_PROMPT_HEAD_CHARS],
        "usage": _to_json(call.usage),
        "failure": _to_json(call.failure),
    }
    return _OPEN, row


def append_text(tx: Transaction, chunks: Iterable[tuple[str, int, str]]) -> None:
    """Save pieces of text, `(call_id, offset in characters, text)`, of any number of calls.

    A piece that is already saved is left as it is, so it can be appended again. Unknown calls are ignored.
    """
    statements: list[Statement] = []
    for call_id, off, text in chunks:
        if text:
            statements.append((_EXTEND, {"id": call_id, "until": off + len(text)}))
        if len(text) > MAX_CHUNK_CHARS:
            tx.note_large_text()
        for start in range(0, len(text), MAX_CHUNK_CHARS):
            piece = text[start : start + MAX_CHUNK_CHARS]
            statements.append((_CHUNK, {"id": call_id, "off": off + start, "text": piece}))
            if len(text) > MAX_CHUNK_CHARS:  # one piece after the other, so that they are not in memory together
                tx.execute_all(statements)
                statements.clear()
    tx.execute_all(statements)


def close_call(
    tx: Transaction,
    call_id: str,
    *,
    end: EndStatus,
    ended_at: float,
    incomplete: str = "",
    usage: Mapping[str, object] | None = None,
    failure: Mapping[str, object] | None = None,
) -> bool:
    """Complete a call. Returns True exactly once.

    The owner's result also replaces `interrupted`, which another process wrote when it took the owner for dead.
    """
    row = {"id": call_id, "end": end, "ended_at": ended_at, "incomplete": incomplete}
    return tx.execute(_CLOSE, row | {"usage": _to_json(usage), "failure": _to_json(failure)}) == 1


def mark_interrupted(tx: Transaction, call_id: str) -> None:
    """Record that a call which its owner has closed as cancelled was ended by a shutdown."""
    tx.execute(_INTERRUPT, {"id": call_id, "why": SERVER_ENDED})


def record_usage(tx: Transaction, call_id: str, usage: Mapping[str, object]) -> None:
    """Record the usage of a call that has none, because its process died."""
    sql = "update call set usage = :usage where id = :id and usage is null"
    tx.execute(sql, {"id": call_id, "usage": _to_json(usage)})


def answer_text(tx: Transaction, call_id: str) -> str:
    """Return the text of a call so far. Empty if it was deleted, or none was written."""
    return "".join(tx.fetch_all(scalar, "select text from chunk where call_id = :id order by off", {"id": call_id}))


def text_from_offset(tx: Transaction, call_id: str, user: str, offset: int) -> TextFromOffset | None:
    """Return a user's call and its text from an offset up to the first gap, or None if this user has no such call."""
    call = find_call(tx, call_id, user)
    if call is None:
        return None
    end, parts = offset, list[str]()
    for off, part in tx.fetch_all(_chunk_row, _CHUNKS_FROM, {"id": call_id, "offset": offset}):
        if off > end:
            break
        parts.append(part[end - off :])
        end = max(end, off + len(part))
    return TextFromOffset(call=call, text="".join(parts), missing=max(0, call.chars - end))


def request_stop(tx: Transaction, call_id: str, user: str) -> bool:
    """Request that the process of a user's call stops it. Returns False if no such call is open."""
    return tx.execute(_REQUEST_STOP, {"id": call_id, "user": user}) == 1


def stop_requests(tx: Transaction, worker: str) -> list[str]:
    """Return the open calls of a worker whose stop was requested."""
    return tx.fetch_all(scalar, _STOP_REQUESTS, {"worker": worker})


def open_call_in_thread(tx: Transaction, thread: str, user: str) -> str | None:
    """Return the open call of a user's thread, the oldest if others wait for it, or None."""
    return tx.fetch_one(scalar, _OPEN_IN_THREAD, {"thread": thread, "user": user})


def find_call(tx: Transaction, call_id: str, user: str) -> JournaledCall | None:
    """Return a user's call, or None if this user has none of that id."""
    return tx.fetch_one(_call_row, _CALL, {"id": call_id, "user": user})


def recent_calls(tx: Transaction, user: str, limit: int = 10) -> list[JournaledCall]:
    """Return a user's newest calls outside of jobs. Interrupted and cancelled ones, which had no reader, come first."""
    return tx.fetch_all(_call_row, _RECENT_CALLS, {"user": user, "limit": limit})


def close_orphaned_calls(tx: Transaction, now: float) -> list[str]:
    """Close the open calls of processes that are not registered. Their text is kept. Returns their ids."""
    return tx.fetch_all(scalar, _CLOSE_ORPHANS, {"now": now, "why": SERVER_ENDED})


def delete_old_text(tx: Transaction, before: float) -> int:
    """Delete the text and prompts of calls that ended before a time in unix seconds. The ledger is kept.

    Returns the number of deleted pieces of text.
    """
    deleted = tx.execute(f"delete from chunk where call_id in ({_ENDED_BEFORE})", {"before": before})  # noqa: S608 - a constant
    clear = f"update call set {CLEAR_TEXT} where {HAS_TEXT} and id in ({_ENDED_BEFORE})"  # noqa: S608 - constants
    tx.execute(clear, {"before": before, "deleted": TEXT_DELETED})
    return deleted


def delete_text(tx: Transaction, call_id: str) -> None:
    """Delete a call's text and prompt at once, for instance after delivery if nothing is retained."""
    tx.execute("delete from chunk where call_id = :id", {"id": call_id})
    tx.execute(f"update call set {CLEAR_TEXT} where id = :id", {"id": call_id, "deleted": TEXT_DELETED})  # noqa: S608 - constants


def _to_json(value: Mapping[str, object] | None) -> str | None:
    return None if value is None else json.dumps(dict(value))


def _chunk_row(*, off: int, text: str) -> tuple[int, str]:
    return off, text


def _call_row(*, usage: str | None, failure: str | None, **row: Any) -> JournaledCall:
    return JournaledCall(usage=_from_json(usage), failure=_from_json(failure), **row)


def _from_json(encoded: str | None) -> dict[str, object] | None:
    return None if encoded is None else json.loads(encoded)
