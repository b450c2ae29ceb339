"""Conversations: their turns as the API gave them, and who is continuing one right now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from mcp_server_claude.store import call_journal
from mcp_server_claude.store.transaction import value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.store.transaction import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A conversation. Times are unix seconds; `head` holds its opening words, `model` the one that answered last."""

    id: str
    user: str
    head: str
    system: str
    model: str
    started_at: float
    touched_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message: its content blocks, and for an answer the model that wrote it."""

    role: str
    content: Sequence[dict[str, object]]
    model: str
    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a call ended: its account, and a sentence where it is not whole."""

    call_id: str
    incomplete: str
    usage: dict[str, object] | None


_THREAD = '"id", "user", head, system, model, started_at, touched_at'
_OPEN = (
    f"insert into thread ({_THREAD}, holder, worker) values (:id, :user, :head, :system, :model, :at, :at, null, '')"  # noqa: S608
)
_TAKE = """
update thread set holder = :call, worker = :worker, touched_at = :now
where id = :id and (holder is null or worker = :worker
                    or not exists (select 1 from worker w where w.id = thread.worker and w.lease_until > :now))
"""
_ADD = """
insert into turn (thread_id, seq, role, content, model, call_id)
values (:id, (select coalesce(max(seq), 0) + 1 from turn where thread_id = :id), :role, :content, :model, :call)
"""
_LAST = "select role, content, model, call_id from turn where thread_id = :id order by seq desc limit 1"
_DROP = "delete from turn where thread_id = :id and call_id = :call and role = 'user'"
_OLD = """
select id from thread where touched_at < :before
and (holder is null or not exists (select 1 from worker w where w.id = thread.worker and w.lease_until > :before))
"""


def begin(tx: Tx, thread: Thread) -> None:
    """Begin a conversation."""
    tx.run(
        _OPEN,
        {
            "id": thread.id,
            "user": thread.user,
            "head": thread.head,
            "system": thread.system,
            "model": thread.model,
            "at": thread.started_at,
        },
    )


def find(tx: Tx, thread_id: str, user: str) -> Thread | None:
    """A user's conversation, or None where this user has none of that id."""
    sql = f'select {_THREAD} from thread where id = :id and "user" = :user'  # noqa: S608 - a constant
    return tx.one(Thread, sql, {"id": thread_id, "user": user})


def take(tx: Tx, thread_id: str, *, call_id: str, worker: str, now: float) -> bool:
    """Hold a conversation for one call; False while a call of another living process holds it.

    Within a process the caller sees to it that there is but one.

    Belongs in one job with `leases.renew` of the worker. What a call that died had written is made a turn first.
    """
    if not tx.run(_TAKE, {"id": thread_id, "call": call_id, "worker": worker, "now": now}):
        return False
    last = tx.one(_turn, _LAST, {"id": thread_id})
    if last is not None and last.role == "user":  # its call never came to its end
        text = call_journal.text(tx, last.call_id)
        if text.strip():
            add(tx, thread_id, Turn(role="assistant", content=[_text(text)], model="", call_id=last.call_id))
        else:
            drop(tx, thread_id, last.call_id)
    return True


def release(tx: Tx, thread_id: str, call_id: str) -> None:
    """Let go of a conversation that this call holds."""
    tx.run("update thread set holder = null, worker = '' where id = :id and holder = :call", _key(thread_id, call_id))


def turns(tx: Tx, thread_id: str) -> list[Turn]:
    """Every turn, in order."""
    sql = "select role, content, model, call_id from turn where thread_id = :id order by seq"
    return tx.all(_turn, sql, {"id": thread_id})


def add(tx: Tx, thread_id: str, turn: Turn) -> None:
    """Append a turn."""
    row = {"role": turn.role, "content": json.dumps(list(turn.content)), "model": turn.model}
    tx.run(_ADD, row | _key(thread_id, turn.call_id))
    if turn.model:
        tx.run("update thread set model = :model where id = :id", {"model": turn.model, "id": thread_id})


def drop(tx: Tx, thread_id: str, call_id: str) -> None:
    """Take back the question of a call that came to nothing; a conversation without any turn goes with it."""
    tx.run(_DROP, _key(thread_id, call_id))
    tx.run(
        "delete from thread where id = :id and not exists (select 1 from turn where thread_id = :id)", {"id": thread_id}
    )


def set_system(tx: Tx, thread_id: str, system: str) -> None:
    """From now on the conversation has these rules."""
    tx.run("update thread set system = :system where id = :id", {"system": system, "id": thread_id})


def recent(tx: Tx, user: str, limit: int = 10) -> list[Thread]:
    """A user's conversations, the latest first."""
    sql = f'select {_THREAD} from thread where "user" = :user order by touched_at desc, id limit :limit'  # noqa: S608
    return tx.all(Thread, sql, {"user": user, "limit": limit})


def listed(tx: Tx, user: str, limit: int) -> list[tuple[Thread, int]]:
    """A user's conversations, the latest first, each with what it cost in micro-dollars."""
    sql = (
        f"select {_THREAD}, coalesce((select sum(cost_micros) from entry where entry.thread = thread.id), 0) as micros "  # noqa: S608
        'from thread where "user" = :user order by touched_at desc, id limit :limit'
    )
    return tx.all(_priced, sql, {"user": user, "limit": limit})


def answers(tx: Tx, thread_id: str) -> dict[str, Answer]:
    """How each call of a conversation ended, by its id."""
    sql = "select id, incomplete, usage from call where thread = :id"
    return {answer.call_id: answer for answer in tx.all(_answer, sql, {"id": thread_id})}


def cost(tx: Tx, thread_id: str) -> int:
    """What a conversation cost, in micro-dollars."""
    sql = "select coalesce(sum(cost_micros), 0) as micros from entry where thread = :id"
    return tx.one(value, sql, {"id": thread_id}) or 0


def delete(tx: Tx, thread_id: str, user: str) -> bool:
    """Delete a user's conversation and the text of its calls; False where this user has none of that id."""
    if find(tx, thread_id, user) is None:
        return False
    for call_id in tx.all(value, "select id from call where thread = :id", {"id": thread_id}):
        call_journal.discard(tx, call_id)
    tx.run("delete from turn where thread_id = :id", {"id": thread_id})
    tx.run("delete from thread where id = :id", {"id": thread_id})
    return True


def forget(tx: Tx, before: float) -> int:
    """Delete conversations that nobody went on with since then, in unix seconds; how many."""
    tx.run(f"delete from turn where thread_id in ({_OLD})", {"before": before})  # noqa: S608 - a constant
    return tx.run(f"delete from thread where id in ({_OLD})", {"before": before})  # noqa: S608 - a constant


def count(tx: Tx) -> int:
    """How many conversations there are."""
    return tx.one(value, "select count(*) as n from thread") or 0


def _priced(micros: int, **row: Any) -> tuple[Thread, int]:
    return Thread(**row), micros


def _answer(id: str, incomplete: str, usage: str | None) -> Answer:  # noqa: A002 - the column's name
    return Answer(call_id=id, incomplete=incomplete, usage=None if usage is None else json.loads(usage))


def _key(thread_id: str, call_id: str) -> dict[str, str]:
    return {"id": thread_id, "call": call_id}


def _text(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def _turn(role: str, content: str, model: str, call_id: str) -> Turn:
    return Turn(role=role, content=cast("list[dict[str, object]]", json.loads(content)), model=model, call_id=call_id)
