"""Threads: their messages as the API sent them, and the call that holds a thread's lock."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import call_journal
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server_claude.store.transaction import Transaction


ThreadCursor: TypeAlias = tuple[float, str]
"""Place in a user's list of threads: `touched_at` and `id` of the last thread before it."""


@frozen_dataclass(kw_only=True)
class Thread:
    """A conversation. Times are unix seconds; `head` holds its opening words, `model` the one that answered last.

    `system` and `definitions` are the system prompt and the tools that its requests begin with. `thinking_refusals`
    counts the turns for which the API refused the thinking of earlier ones; with `drops_thinking` (1) the API drops
    what it would refuse, with `merges_tools` (1) all tools stand at the beginning.
    """

    id: str
    user: str
    head: str
    system: str
    model: str
    started_at: float
    touched_at: float
    definitions: Sequence[dict[str, object]] = ()
    thinking_refusals: int = 0
    drops_thinking: int = 0
    merges_tools: int = 0


@frozen_dataclass(kw_only=True)
class ThreadMessage:
    """One message: its content blocks, and for an answer the model that wrote it.

    `rules` are the instructions that hold from a question on, empty where they did not change. `prefix_digest`
    identifies everything before an answer in its request; it is empty where its thinking must not be sent again.
    `added_tools` are the tools that a question brought.
    """

    role: Literal["user", "assistant"]
    content: Sequence[dict[str, object]]
    model: str
    call_id: str
    rules: str = ""
    prefix_digest: str = ""
    added_tools: Sequence[dict[str, object]] = ()


@frozen_dataclass(kw_only=True)
class AnswerStatus:
    """State of a call in a thread: its usage, and a sentence if its answer is incomplete."""

    call_id: str
    incomplete: str
    usage: dict[str, object] | None


MAX_INLINE_CHARS = 256 * 1024
"""Characters of a text block that are stored in its message's row; the rest is stored in rows of this size at most.
SQLite copies a value twice to write it."""
UNLOCKED = "(holder is null or not exists (select 1 from process where process.id = thread.worker))"
"""Condition on a thread that no running process has locked, as SQL."""
_THREAD = '"id", "user", head, system, model, started_at, touched_at'
_THREAD_STATE = "definitions, thinking_refusals, drops_thinking, merges_tools"
_MESSAGE = "role, content, model, call_id, rules, prefix_digest, added_tools"
_INSERT_THREAD = f"""
insert into thread ({_THREAD}, holder, worker)
values (:id, :user, :head, :system, :model, :at, :at, :call, :worker)
"""  # noqa: S608 - a constant
_LOCK_ROW = "update thread set holder = holder where id = :id"
"""Makes others wait until the transaction ends. The next statement then sees what they have committed, their processes
included (https://www.postgresql.org/docs/current/transaction-iso.html)."""
_LOCK = f"""
update thread set holder = :call, worker = :worker, touched_at = :now
where id = :id and (worker = :worker or {UNLOCKED})
"""  # noqa: S608 - a constant
_INSERT_MESSAGE = """
insert into turn (thread_id, seq, role, content, model, call_id, rules, prefix_digest)
values (:id, (select coalesce(max(seq), 0) + 1 from turn where thread_id = :id), :role, :content, :model, :call,
        :rules, :digest)
"""
_QUESTION_SEQ = "select seq from turn where thread_id = :id and call_id = :call and role = 'user'"
_SET_CONTENT = "update turn set content = :content where thread_id = :id and seq = :seq"
_INSERT_TEXT = "insert into turn_text (thread_id, seq, block, off, text) values (:id, :seq, :block, :off, :text)"
_DELETE_TEXT = "delete from turn_text where thread_id = :id and seq = :seq"
_TEXTS = "select seq, block, text from turn_text where thread_id = :id order by seq, block, off"
_MESSAGES = f"""
select seq, {_MESSAGE}, case when exists (select 1 from turn_text where thread_id = :id) then 1 else 0 end as has_texts
from turn where thread_id = :id order by seq
"""  # noqa: S608 - a constant
_LAST_MESSAGE = f"select {_MESSAGE} from turn where thread_id = :id order by seq desc limit 1"  # noqa: S608
_DELETE_QUESTION = "delete from turn where thread_id = :id and call_id = :call and role = 'user'"
_INACTIVE = f"select id from thread where touched_at < :before and {UNLOCKED}"  # noqa: S608 - a constant


def create_thread(tx: Transaction, thread: Thread, *, call_id: str | None = None, worker: str = "") -> None:
    """Insert a thread without messages, locked for a call of a worker if there is one."""
    row = {"id": thread.id, "user": thread.user, "head": thread.head, "system": thread.system, "model": thread.model}
    tx.execute_all([(_INSERT_THREAD, {**row, "at": thread.started_at, "call": call_id, "worker": worker})])


def find_thread(tx: Transaction, thread_id: str, user: str) -> Thread | None:
    """Return a user's thread, or None if this user has none of that id."""
    sql = f'select {_THREAD}, {_THREAD_STATE} from thread where id = :id and "user" = :user'  # noqa: S608 - constants
    return tx.fetch_one(_thread_row, sql, {"id": thread_id, "user": user})


def lock_thread(
    tx: Transaction, thread_id: str, *, call_id: str, worker: str, now: float
) -> list[ThreadMessage] | None:
    """Lock a thread for one call. Returns its messages, or None while a call of another running process has the lock.

    Within a process the caller must allow one call at a time. Belongs in one transaction with
    `process_locks.register_process` of the worker, after `remove_dead_processes`. The saved text of a call whose
    process died becomes a message first.
    """
    tx.execute_all([(_LOCK_ROW, {"id": thread_id})])
    if not tx.execute(_LOCK, {"id": thread_id, "call": call_id, "worker": worker, "now": now}):
        return None
    messages = thread_history(tx, thread_id)
    if not messages or messages[-1].role != "user":
        return messages
    unanswered = messages[-1].call_id  # this call never ended
    text = call_journal.answer_text(tx, unanswered)
    if text.strip():
        answer = ThreadMessage(role="assistant", content=[_text_block(text)], model="", call_id=unanswered)
        append_message(tx, thread_id, answer)
        return [*messages, answer]
    # Not with `delete_question`: the thread stays, even if it was the first one.
    tx.execute_all([(_DELETE_QUESTION, _key_params(thread_id, unanswered))])
    return messages[:-1]


def holds_lock(tx: Transaction, thread_id: str, call_id: str) -> bool:
    """Return True if a call holds the lock of a thread. The row stays locked until the transaction ends."""
    return tx.execute(f"{_LOCK_ROW} and holder = :call", _key_params(thread_id, call_id)) == 1


def unlock_thread(tx: Transaction, thread_id: str, call_id: str) -> None:
    """Release the lock of a thread if this call holds it."""
    sql = "update thread set holder = null, worker = '' where id = :id and holder = :call"
    tx.execute_all([(sql, _key_params(thread_id, call_id))])


def thread_history(tx: Transaction, thread_id: str) -> list[ThreadMessage]:
    """Return all messages of a thread, in order."""
    rows = tx.fetch_all(_numbered_message_row, _MESSAGES, {"id": thread_id})
    messages = {seq: message for seq, _, message in rows}
    if not any(has_texts for _, has_texts, _ in rows):
        return list(messages.values())
    texts: dict[tuple[int, int], list[str]] = {}
    for seq, block, text in tx.fetch_all(_text_row, _TEXTS, {"id": thread_id}):
        texts.setdefault((seq, block), []).append(text)
    for (seq, index), pieces in texts.items():
        block = messages[seq].content[index]
        block["text"] = "".join((str(block["text"]), *pieces))
    return list(messages.values())


def append_message(tx: Transaction, thread_id: str, message: ThreadMessage) -> None:
    """Append a message to a thread."""
    row = {
        "role": message.role,
        "content": _encode_heads(message.content),
        "model": message.model,
        "rules": message.rules,
        "digest": message.prefix_digest,
    }
    row |= _key_params(thread_id, message.call_id)
    if any(_long_text(block) is not None for block in message.content):
        seq = tx.fetch_one(scalar, f"{_INSERT_MESSAGE} returning seq", row) or 0
        _insert_rests(tx, thread_id, seq, message.content)
    else:
        tx.execute_all([(_INSERT_MESSAGE, row)])
    if message.model:
        sql = "update thread set model = :model where id = :id"
        tx.execute_all([(sql, {"model": message.model, "id": thread_id})])


def delete_question(tx: Transaction, thread_id: str, call_id: str) -> None:
    """Delete the question of a call that has no answer, and the thread with it if no message is left."""
    sql = "delete from thread where id = :id and not exists (select 1 from turn where thread_id = :id)"
    tx.execute_all([(_DELETE_QUESTION, _key_params(thread_id, call_id)), (sql, {"id": thread_id})])


def remove_interrupted_turn(tx: Transaction, thread_id: str, call_id: str) -> None:
    """Remove the last turn of a thread, if it is that of a call which is about to be repeated, and an empty thread."""
    last = tx.fetch_one(_message_row, _LAST_MESSAGE, {"id": thread_id})
    if last is None or last.call_id == call_id:
        tx.execute("delete from turn where thread_id = :id and call_id = :call", _key_params(thread_id, call_id))
        delete_question(tx, thread_id, call_id)


def replace_question(tx: Transaction, thread_id: str, call_id: str, content: Sequence[dict[str, object]]) -> None:
    """Store a question as it was sent, where files had to be added to it."""
    for seq in tx.fetch_all(scalar, _QUESTION_SEQ, _key_params(thread_id, call_id)):
        _replace_content(tx, thread_id, seq, content)


def set_definitions(tx: Transaction, thread_id: str, definitions: Sequence[dict[str, object]]) -> None:
    """Store the tools that the requests of a conversation begin with."""
    sql = "update thread set definitions = :definitions where id = :id"
    tx.execute_all([(sql, {"definitions": json.dumps(list(definitions)), "id": thread_id})])


def set_added_tools(tx: Transaction, thread_id: str, call_id: str, definitions: Sequence[dict[str, object]]) -> None:
    """Store the tools that a question brought into its conversation."""
    sql = "update turn set added_tools = :tools where thread_id = :id and call_id = :call and role = 'user'"
    tx.execute_all([(sql, {"tools": json.dumps(list(definitions))} | _key_params(thread_id, call_id))])


def keep_merging_tools(tx: Transaction, thread_id: str) -> None:
    """Remember that the API takes no tools which come later in a conversation: all stand at its beginning."""
    tx.execute("update thread set merges_tools = 1 where id = :id", {"id": thread_id})


def forget_thinking(tx: Transaction, thread_id: str) -> None:
    """Remember that the thinking of a conversation so far was refused by the API, and is never to be sent again."""
    tx.execute("update turn set prefix_digest = '' where thread_id = :id", {"id": thread_id})
    sql = "update thread set thinking_refusals = thinking_refusals + 1 where id = :id"
    tx.execute(sql, {"id": thread_id})


def keep_dropping_thinking(tx: Transaction, thread_id: str) -> None:
    """Remember that the API is to drop thinking of a conversation that it would refuse, in all later requests."""
    tx.execute("update thread set drops_thinking = 1 where id = :id", {"id": thread_id})


def replace_contents(tx: Transaction, thread_id: str, contents: Mapping[int, Sequence[dict[str, object]]]) -> None:
    """Replace the content of messages, by their place in `thread_history`."""
    places = tx.fetch_all(scalar, "select seq from turn where thread_id = :id order by seq", {"id": thread_id})
    for place, content in contents.items():
        _replace_content(tx, thread_id, places[place], content)


def recent_threads(tx: Transaction, user: str, limit: int = 10) -> list[Thread]:
    """Return a user's threads, the latest first."""
    sql = f'select {_THREAD} from thread where "user" = :user order by touched_at desc, id limit :limit'  # noqa: S608
    return tx.fetch_all(Thread, sql, {"user": user, "limit": limit})


def threads_with_cost(
    tx: Transaction, user: str, limit: int, after: ThreadCursor | None = None
) -> list[tuple[Thread, int]]:
    """Return a page of a user's threads, the latest first, each with its cost in micro-dollars.

    `after` is the cursor of the last thread of the page before.
    """
    condition = "" if after is None else "and (touched_at < :touched_at or touched_at = :touched_at and id > :after) "
    sql = (
        f"select {_THREAD}, coalesce((select sum(cost_micros) from entry where entry.thread = thread.id), 0) as micros "  # noqa: S608
        f'from thread where "user" = :user {condition}order by touched_at desc, id limit :limit'
    )
    touched_at, thread_id = after or (0.0, "")
    return tx.fetch_all(
        _thread_with_cost, sql, {"user": user, "limit": limit, "touched_at": touched_at, "after": thread_id}
    )


def answer_statuses(tx: Transaction, thread_id: str) -> dict[str, AnswerStatus]:
    """Return the state of each call of a thread, by call id."""
    sql = "select id, incomplete, usage from call where thread = :id"
    return {answer.call_id: answer for answer in tx.fetch_all(_answer_status_row, sql, {"id": thread_id})}


def thread_cost_micros(tx: Transaction, thread_id: str) -> int:
    """Return the cost of a thread in micro-dollars."""
    sql = "select coalesce(sum(cost_micros), 0) as micros from entry where thread = :id"
    return tx.fetch_one(scalar, sql, {"id": thread_id}) or 0


def delete_thread(tx: Transaction, thread_id: str, user: str) -> bool:
    """Delete a user's thread and the text of its calls. Returns False if this user has none of that id."""
    if find_thread(tx, thread_id, user) is None:
        return False
    for call_id in tx.fetch_all(scalar, "select id from call where thread = :id", {"id": thread_id}):
        call_journal.delete_text(tx, call_id)
    tx.execute("delete from turn where thread_id = :id", {"id": thread_id})
    tx.execute("delete from thread where id = :id", {"id": thread_id})
    return True


def delete_inactive_threads(tx: Transaction, before: float) -> int:
    """Delete the threads that were not continued since a time in unix seconds. Returns their number."""
    tx.execute(f"delete from turn where thread_id in ({_INACTIVE})", {"before": before})  # noqa: S608 - a constant
    return tx.execute(f"delete from thread where id in ({_INACTIVE})", {"before": before})  # noqa: S608 - a constant


def count_threads(tx: Transaction) -> int:
    """Return the number of threads."""
    return tx.fetch_one(scalar, "select count(*) as n from thread") or 0


def _replace_content(tx: Transaction, thread_id: str, seq: int, content: Sequence[dict[str, object]]) -> None:
    key = {"id": thread_id, "seq": seq}
    tx.execute_all([(_SET_CONTENT, {**key, "content": _encode_heads(content)}), (_DELETE_TEXT, key)])
    _insert_rests(tx, thread_id, seq, content)


def _encode_heads(content: Sequence[dict[str, object]]) -> str:
    """The JSON of a message's content, of long texts their first part."""
    return json.dumps(
        [
            block if (text := _long_text(block)) is None else {**block, "text": text[:MAX_INLINE_CHARS]}
            for block in content
        ]
    )


def _insert_rests(tx: Transaction, thread_id: str, seq: int, content: Sequence[dict[str, object]]) -> None:
    """Insert the rest of each long text."""
    for index, block in enumerate(content):
        text = _long_text(block) or ""
        if text:
            tx.note_large_text()
        for start in range(MAX_INLINE_CHARS, len(text), MAX_INLINE_CHARS):
            place = {"id": thread_id, "seq": seq, "block": index, "off": start}
            tx.execute(_INSERT_TEXT, {**place, "text": text[start : start + MAX_INLINE_CHARS]})


def _long_text(block: Mapping[str, object]) -> str | None:
    """The text of a text block that is too long for one row."""
    text = block.get("text")
    is_long = block.get("type") == "text" and isinstance(text, str) and len(text) > MAX_INLINE_CHARS
    return str(text) if is_long else None


def _thread_with_cost(micros: int, **row: Any) -> tuple[Thread, int]:
    return Thread(**row), micros


def _answer_status_row(id: str, incomplete: str, usage: str | None) -> AnswerStatus:  # noqa: A002 - the column's name
    return AnswerStatus(call_id=id, incomplete=incomplete, usage=None if usage is None else json.loads(usage))


def _key_params(thread_id: str, call_id: str) -> dict[str, str]:
    return {"id": thread_id, "call": call_id}


def _text_block(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def _thread_row(definitions: str, **row: Any) -> Thread:
    return Thread(definitions=cast("list[dict[str, object]]", json.loads(definitions)), **row)


def _message_row(content: str, added_tools: str, **row: Any) -> ThreadMessage:
    blocks, definitions = (cast("list[dict[str, object]]", json.loads(text)) for text in (content, added_tools))
    return ThreadMessage(content=blocks, added_tools=definitions, **row)


def _numbered_message_row(seq: int, has_texts: int, **row: Any) -> tuple[int, bool, ThreadMessage]:
    return seq, bool(has_texts), _message_row(**row)


def _text_row(*, seq: int, block: int, text: str) -> tuple[int, int, str]:
    return seq, block, text
