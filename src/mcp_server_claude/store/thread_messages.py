"""Conversations: their turns as the API gave them, and who is continuing one right now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from mcp_server_claude.store import call_journal
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.store.transaction import Transaction


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
class ThreadMessage:
    """One message: its content blocks, and for an answer the model that wrote it."""

    role: str
    content: Sequence[dict[str, object]]
    model: str
    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerStatus:
    """How a call ended: its account, and a sentence where it is not whole."""

    call_id: str
    incomplete: str
    usage: dict[str, object] | None


_THREAD = '"id", "user", head, system, model, started_at, touched_at'
_INSERT_THREAD = (
    f"insert into thread ({_THREAD}, holder, worker) values (:id, :user, :head, :system, :model, :at, :at, null, '')"  # noqa: S608
)
_LOCK = """
update thread set holder = :call, worker = :worker, touched_at = :now
where id = :id and (holder is null or worker = :worker
                    or not exists (select 1 from worker w where w.id = thread.worker and w.lease_until > :now))
"""
_INSERT_MESSAGE = """
insert into turn (thread_id, seq, role, content, model, call_id)
values (:id, (select coalesce(max(seq), 0) + 1 from turn where thread_id = :id), :role, :content, :model, :call)
"""
_LAST_MESSAGE = "select role, content, model, call_id from turn where thread_id = :id order by seq desc limit 1"
_DELETE_QUESTION = "delete from turn where thread_id = :id and call_id = :call and role = 'user'"
_INACTIVE = """
select id from thread where touched_at < :before
and (holder is null or not exists (select 1 from worker w where w.id = thread.worker and w.lease_until > :before))
"""


def create_thread(tx: Transaction, thread: Thread) -> None:
    """Begin a conversation."""
    tx.execute(
        _INSERT_THREAD,
        {
            "id": thread.id,
            "user": thread.user,
            "head": thread.head,
            "system": thread.system,
            "model": thread.model,
            "at": thread.started_at,
        },
    )


def find_thread(tx: Transaction, thread_id: str, user: str) -> Thread | None:
    """A user's conversation, or None where this user has none of that id."""
    sql = f'select {_THREAD} from thread where id = :id and "user" = :user'  # noqa: S608 - a constant
    return tx.fetch_one(Thread, sql, {"id": thread_id, "user": user})


def lock_thread(tx: Transaction, thread_id: str, *, call_id: str, worker: str, now: float) -> bool:
    """Hold a conversation for one call; False while a call of another living process holds it.

    Within a process the caller sees to it that there is but one.

    Belongs in one job with `leases.renew` of the worker. What a call that died had written is made a turn first.
    """
    if not tx.execute(_LOCK, {"id": thread_id, "call": call_id, "worker": worker, "now": now}):
        return False
    last = tx.fetch_one(_message_row, _LAST_MESSAGE, {"id": thread_id})
    if last is not None and last.role == "user":  # its call never came to its end
        text = call_journal.answer_text(tx, last.call_id)
        if text.strip():
            append_message(
                tx,
                thread_id,
                ThreadMessage(role="assistant", content=[_text_block(text)], model="", call_id=last.call_id),
            )
        else:
            delete_question(tx, thread_id, last.call_id)
    return True


def unlock_thread(tx: Transaction, thread_id: str, call_id: str) -> None:
    """Let go of a conversation that this call holds."""
    tx.execute(
        "update thread set holder = null, worker = '' where id = :id and holder = :call",
        _key_params(thread_id, call_id),
    )


def thread_history(tx: Transaction, thread_id: str) -> list[ThreadMessage]:
    """Every turn, in order."""
    sql = "select role, content, model, call_id from turn where thread_id = :id order by seq"
    return tx.fetch_all(_message_row, sql, {"id": thread_id})


def append_message(tx: Transaction, thread_id: str, message: ThreadMessage) -> None:
    """Append a turn."""
    row = {"role": message.role, "content": json.dumps(list(message.content)), "model": message.model}
    tx.execute(_INSERT_MESSAGE, row | _key_params(thread_id, message.call_id))
    if message.model:
        tx.execute("update thread set model = :model where id = :id", {"model": message.model, "id": thread_id})


def delete_question(tx: Transaction, thread_id: str, call_id: str) -> None:
    """Take back the question of a call that came to nothing; a conversation without any turn goes with it."""
    tx.execute(_DELETE_QUESTION, _key_params(thread_id, call_id))
    tx.execute(
        "delete from thread where id = :id and not exists (select 1 from turn where thread_id = :id)", {"id": thread_id}
    )


def set_system(tx: Transaction, thread_id: str, system: str) -> None:
    """From now on the conversation has these rules."""
    tx.execute("update thread set system = :system where id = :id", {"system": system, "id": thread_id})


def recent_threads(tx: Transaction, user: str, limit: int = 10) -> list[Thread]:
    """A user's conversations, the latest first."""
    sql = f'select {_THREAD} from thread where "user" = :user order by touched_at desc, id limit :limit'  # noqa: S608
    return tx.fetch_all(Thread, sql, {"user": user, "limit": limit})


def threads_with_cost(tx: Transaction, user: str, limit: int) -> list[tuple[Thread, int]]:
    """A user's conversations, the latest first, each with what it cost in micro-dollars."""
    sql = (
        f"select {_THREAD}, coalesce((select sum(cost_micros) from entry where entry.thread = thread.id), 0) as micros "  # noqa: S608
        'from thread where "user" = :user order by touched_at desc, id limit :limit'
    )
    return tx.fetch_all(_thread_with_cost, sql, {"user": user, "limit": limit})


def answer_statuses(tx: Transaction, thread_id: str) -> dict[str, AnswerStatus]:
    """How each call of a conversation ended, by its id."""
    sql = "select id, incomplete, usage from call where thread = :id"
    return {answer.call_id: answer for answer in tx.fetch_all(_answer_status_row, sql, {"id": thread_id})}


def thread_cost_micros(tx: Transaction, thread_id: str) -> int:
    """What a conversation cost, in micro-dollars."""
    sql = "select coalesce(sum(cost_micros), 0) as micros from entry where thread = :id"
    return tx.fetch_one(scalar, sql, {"id": thread_id}) or 0


def delete_thread(tx: Transaction, thread_id: str, user: str) -> bool:
    """Delete a user's conversation and the text of its calls; False where this user has none of that id."""
    if find_thread(tx, thread_id, user) is None:
        return False
    for call_id in tx.fetch_all(scalar, "select id from call where thread = :id", {"id": thread_id}):
        call_journal.delete_text(tx, call_id)
    tx.execute("delete from turn where thread_id = :id", {"id": thread_id})
    tx.execute("delete from thread where id = :id", {"id": thread_id})
    return True


def delete_inactive_threads(tx: Transaction, before: float) -> int:
    """Delete conversations that nobody went on with since then, in unix seconds; how many."""
    tx.execute(f"delete from turn where thread_id in ({_INACTIVE})", {"before": before})  # noqa: S608 - a constant
    return tx.execute(f"delete from thread where id in ({_INACTIVE})", {"before": before})  # noqa: S608 - a constant


def count_threads(tx: Transaction) -> int:
    """How many conversations there are."""
    return tx.fetch_one(scalar, "select count(*) as n from thread") or 0


def _thread_with_cost(micros: int, **row: Any) -> tuple[Thread, int]:
    return Thread(**row), micros


def _answer_status_row(id: str, incomplete: str, usage: str | None) -> AnswerStatus:  # noqa: A002 - the column's name
    return AnswerStatus(call_id=id, incomplete=incomplete, usage=None if usage is None else json.loads(usage))


def _key_params(thread_id: str, call_id: str) -> dict[str, str]:
    return {"id": thread_id, "call": call_id}


def _text_block(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def _message_row(role: str, content: str, model: str, call_id: str) -> ThreadMessage:
    return ThreadMessage(
        role=role, content=cast("list[dict[str, object]]", json.loads(content)), model=model, call_id=call_id
    )
