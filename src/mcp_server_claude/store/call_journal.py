"""The text of answers while they are written, so that one that was paid for can be read after a crash or a cancel."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from mcp_server_claude.store.transaction import value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mcp_server_claude.store.request_ledger import End, State
    from mcp_server_claude.store.transaction import Tx

HEAD_CHARS = 200
DIED = "The server ended before the answer was finished."
GONE = "Its text is not kept any more."
"""In the place of why an answer is not whole: that may quote what the API wrote, and the API what it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One call as the journal knows it. Times are unix seconds; `chars` is the length of the text so far.

    `prompt_head` holds the prompt's opening words, `incomplete` one sentence on why the answer is not whole, `usage`
    the account and `failure` what a program needs to know of a failure, as JSON values.
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
    state: State = "open"
    end: End | None = None
    incomplete: str = ""
    usage: Mapping[str, object] | None = None
    failure: Mapping[str, object] | None = None
    ended_at: float | None = None
    chars: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """A call, and its text from a place in it on. `missing` characters between that text and its end are not there:
    discarded, forgotten, or never written.
    """

    record: Record
    text: str
    missing: int = 0


_COLUMNS = tuple(field.name for field in fields(Record))
_QUOTED = ", ".join(f'"{name}"' for name in _COLUMNS)
_BOUND = ", ".join(f":{name}" for name in _COLUMNS)
# The names in these statements are the fields above; every value is bound.
_OPEN = f"insert into call ({_QUOTED}) values ({_BOUND})"  # noqa: S608
_CALL = f'select {_QUOTED} from call where id = :id and "user" = :user'  # noqa: S608
_RECENT = f"""
select {_QUOTED} from (select * from call where "user" = :user order by started_at desc, id desc limit :limit) as newest
order by case when "end" in ('interrupted', 'cancelled') then 0 else 1 end, started_at desc, id desc
"""  # noqa: S608
_CLOSE = """
update call set state = 'closed', "end" = :end, ended_at = :ended_at, incomplete = :incomplete, usage = :usage,
failure = :failure
where id = :id and state = 'open'
"""
_INTERRUPTED = """
update call set state = 'closed', "end" = 'interrupted', ended_at = :now, incomplete = :why
where state = 'open' and not exists (select 1 from worker where worker.id = call.worker and worker.lease_until > :now)
returning id
"""
_GROW = "update call set chars = case when chars < :until then :until else chars end where id = :id"
_CHUNK = "insert into chunk (call_id, off, text) values (:id, :off, :text) on conflict (call_id, off) do nothing"
_TAIL = """
select off, text from chunk where call_id = :id
and off >= coalesce((select max(off) from chunk where call_id = :id and off <= :offset), 0) order by off
"""
_WISH = "update call set stop_requested = 1 where id = :id and \"user\" = :user and state = 'open'"
_WISHED = "select id from call where worker = :worker and state = 'open' and stop_requested <> 0"
_UNDER_WAY = """
select id from call where thread = :thread and "user" = :user and state = 'open' order by started_at, id limit 1
"""
_OLD = "select id from call where state = 'closed' and ended_at < :before"
HAS_WORDS = "(prompt_head <> '' or incomplete not in ('', :gone))"
WITHOUT_WORDS = "prompt_head = '', incomplete = case when incomplete = '' then '' else :gone end"
"""For `set`; both with `GONE` as `gone`."""


def open_call(tx: Tx, call: Record) -> None:
    """Begin a call's record; in one job with `leases.renew` of its worker, else it counts as dead."""
    row = {name: getattr(call, name) for name in _COLUMNS}
    row |= {"prompt_head": call.prompt_head[:HEAD_CHARS], "usage": _json(call.usage), "failure": _json(call.failure)}
    tx.run(_OPEN, row)


def append(tx: Tx, chunks: Iterable[tuple[str, int, str]]) -> None:
    """Keep pieces of text, `(call_id, offset in characters, text)`, of any number of calls.

    A piece that is already there stays as it was, so it does no harm to append it again; one of a call that has no
    record is passed over.
    """
    for call_id, off, text in chunks:
        if text and tx.run(_GROW, {"id": call_id, "until": off + len(text)}):
            tx.run(_CHUNK, {"id": call_id, "off": off, "text": text})


def close_call(
    tx: Tx,
    call_id: str,
    *,
    end: End,
    ended_at: float,
    incomplete: str = "",
    usage: Mapping[str, object] | None = None,
    failure: Mapping[str, object] | None = None,
) -> bool:
    """Complete a call's record; True exactly once."""
    row = {"id": call_id, "end": end, "ended_at": ended_at, "incomplete": incomplete}
    return tx.run(_CLOSE, row | {"usage": _json(usage), "failure": _json(failure)}) == 1


def text(tx: Tx, call_id: str) -> str:
    """What a call has written so far; empty where it was discarded, forgotten or never begun."""
    return "".join(tx.all(value, "select text from chunk where call_id = :id order by off", {"id": call_id}))


def tail(tx: Tx, call_id: str, user: str, offset: int) -> Tail | None:
    """A user's call with its text from a character on, as far as that is there without a gap."""
    record = call(tx, call_id, user)
    if record is None:
        return None
    end, parts = offset, list[str]()
    for off, part in tx.all(_chunk, _TAIL, {"id": call_id, "offset": offset}):
        if off > end:
            break
        parts.append(part[end - off :])
        end = max(end, off + len(part))
    return Tail(record=record, text="".join(parts), missing=max(0, record.chars - end))


def wish_stop(tx: Tx, call_id: str, user: str) -> bool:
    """Ask the process that runs a user's call to stop it; False where no such call is open."""
    return tx.run(_WISH, {"id": call_id, "user": user}) == 1


def wished_stopped(tx: Tx, worker: str) -> list[str]:
    """The open calls of a worker that somebody wants stopped."""
    return tx.all(value, _WISHED, {"worker": worker})


def under_way(tx: Tx, thread: str, user: str) -> str | None:
    """The open call of a user's conversation, the first where more wait for it."""
    return tx.one(value, _UNDER_WAY, {"thread": thread, "user": user})


def call(tx: Tx, call_id: str, user: str) -> Record | None:
    """A user's call, or None where this user has none of that id."""
    return tx.one(_record, _CALL, {"id": call_id, "user": user})


def recent(tx: Tx, user: str, limit: int = 10) -> list[Record]:
    """A user's newest calls, those first whose answer had no reader (interrupted or cancelled), then by age."""
    return tx.all(_record, _RECENT, {"user": user, "limit": limit})


def interrupted(tx: Tx, now: float) -> list[str]:
    """Close the open calls of workers whose lease has run out, keeping their text; returns their ids."""
    return tx.all(value, _INTERRUPTED, {"now": now, "why": DIED})


def forget(tx: Tx, before: float) -> int:
    """Delete the text and other words of calls that ended before then, in unix seconds; the ledger stays.

    Returns how many pieces of text were deleted.
    """
    gone = tx.run(f"delete from chunk where call_id in ({_OLD})", {"before": before})  # noqa: S608 - a constant
    words = f"update call set {WITHOUT_WORDS} where {HAS_WORDS} and id in ({_OLD})"  # noqa: S608 - constants
    tx.run(words, {"before": before, "gone": GONE})
    return gone


def discard(tx: Tx, call_id: str) -> None:
    """Delete a call's text and other words at once, as is done with no retention when the answer is delivered."""
    tx.run("delete from chunk where call_id = :id", {"id": call_id})
    tx.run(f"update call set {WITHOUT_WORDS} where id = :id", {"id": call_id, "gone": GONE})  # noqa: S608 - constants


def _json(usage: Mapping[str, object] | None) -> str | None:
    return None if usage is None else json.dumps(dict(usage))


def _chunk(*, off: int, text: str) -> tuple[int, str]:
    return off, text


def _record(*, usage: str | None, failure: str | None, **row: Any) -> Record:
    return Record(usage=_read(usage), failure=_read(failure), **row)


def _read(told: str | None) -> dict[str, object] | None:
    return None if told is None else json.loads(told)
