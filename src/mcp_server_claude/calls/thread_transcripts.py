"""Transcripts of threads: their transactions in the store, and the history that a call sends of them.

What is stored is what the API needs to see again: the blocks of an answer unchanged, thinking and signatures too; of an
answer that was cut or joined from several streams its text alone. At any moment the stored history is a conversation
that the API takes: questions and answers in turn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from mcp_server_claude.call_types import THINKING_BLOCK_TYPES, PastMessage, Reply
from mcp_server_claude.engine import citations
from mcp_server_claude.engine.answer_buffer import as_paragraph
from mcp_server_claude.engine.thread_history import abilities_in, merge_definitions
from mcp_server_claude.engine.thread_repair import remote_file, without_missing_files
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.store import process_locks
from mcp_server_claude.store import thread_messages as stored
from mcp_server_claude.text_log import is_blank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server_claude.call_types import Block, Call, Message, SentTurn
    from mcp_server_claude.store import Transaction
    from mcp_server_claude.store.process_locks import ProcessLocks
    from mcp_server_claude.store.thread_messages import AnswerStatus, Thread, ThreadMessage

MAX_THINKING_REFUSALS = 2
"""Refusals of earlier thinking after which a thread sends none any more."""


@frozen_dataclass(kw_only=True)
class ThreadTranscript:
    """A conversation with its turns."""

    thread: Thread
    turns: Sequence[ThreadMessage]


@frozen_dataclass(kw_only=True)
class TranscriptWithCosts(ThreadTranscript):
    """A conversation with the states of its answers, and its cost in micro-dollars."""

    answers: Mapping[str, AnswerStatus]
    cost_micros: int


@frozen_dataclass()
class ThreadBusy:
    """A call of another process holds the lock of a thread."""


def lock_and_add_question(
    tx: Transaction, call: Call, locks: ProcessLocks, now: float, *, new: bool
) -> ThreadTranscript | ThreadBusy | None:
    """Lock a thread and add the question of a call. Returns None if the thread does not exist."""
    process_locks.register_process(tx, locks.worker)
    if new:
        transcript = ThreadTranscript(thread=_new_thread(call, now), turns=())
        stored.create_thread(tx, transcript.thread, call_id=call.id, worker=locks.worker)
    else:
        process_locks.remove_dead_processes(tx, locks)
        thread = stored.find_thread(tx, call.thread, call.user)
        if thread is None:
            return None
        turns = stored.lock_thread(tx, call.thread, call_id=call.id, worker=locks.worker, now=now)
        if turns is None:
            return ThreadBusy()
        transcript = ThreadTranscript(thread=thread, turns=turns)
    question = stored.ThreadMessage(
        role="user",
        content=[dict(block) for block in (*call.attachments, {"type": "text", "text": call.prompt})],
        model="",
        call_id=call.id,
        rules=_new_rules(call, transcript),
    )
    stored.append_message(tx, call.thread, question)
    return transcript


def _new_thread(call: Call, now: float) -> Thread:
    head = " ".join(call.prompt[:400].split())[:200]
    return stored.Thread(
        id=call.thread,
        user=call.user,
        head=head,
        system=call.system,
        model=call.model,
        started_at=now,
        touched_at=now,
    )


def store_answer_and_unlock(tx: Transaction, call: Call, answer: Sequence[Block], sent: SentTurn | None) -> None:
    """Append the answer, or remove the question where there is none, and unlock the thread.

    Without an answer nothing else changes: a call that failed must not change what later ones send. A call that has
    lost the lock changes nothing: its process was taken for dead, and its saved text is a message already.
    """
    if not stored.holds_lock(tx, call.thread, call.id):
        return
    if answer:
        if sent is not None:
            _store_sent_turn(tx, call, sent)
        message = stored.ThreadMessage(
            role="assistant",
            content=[dict(block) for block in answer],
            model=call.model,
            call_id=call.id,
            prefix_digest=_prefix_digest(tx, call, sent),
        )
        stored.append_message(tx, call.thread, message)
        stored.unlock_thread(tx, call.thread, call.id)
    else:
        stored.unlock_thread(tx, call.thread, call.id)
        stored.delete_question(tx, call.thread, call.id)


def find_transcript(tx: Transaction, thread_id: str, user: str) -> ThreadTranscript | None:
    thread = stored.find_thread(tx, thread_id, user)
    return None if thread is None else ThreadTranscript(thread=thread, turns=stored.thread_history(tx, thread_id))


def answers_and_cost(tx: Transaction, thread_id: str) -> tuple[dict[str, AnswerStatus], int]:
    return stored.answer_statuses(tx, thread_id), stored.thread_cost_micros(tx, thread_id)


def _store_sent_turn(tx: Transaction, call: Call, sent: SentTurn) -> None:
    """Store what later turns must send unchanged."""
    if sent.question != call.user_message():
        # Files of earlier turns were put into a new container with it, or the schema was added in words.
        stored.replace_question(tx, call.thread, call.id, _question_blocks(sent.question))
    if sent.definitions != call.definitions:
        stored.set_definitions(tx, call.thread, [dict(definition) for definition in sent.definitions])
    if sent.added_tools:
        stored.set_added_tools(tx, call.thread, call.id, [dict(definition) for definition in sent.added_tools])
    if sent.merges_tools:
        stored.keep_merging_tools(tx, call.thread)
    if sent.dropped_thinking:
        stored.forget_thinking(tx, call.thread)
    if sent.drops_blocks:
        stored.keep_dropping_thinking(tx, call.thread)
    if sent.missing_files:
        missing = frozenset(sent.missing_files)
        turns = enumerate(stored.thread_history(tx, call.thread))
        contents = {
            place: [dict(block) for block in without_missing_files(turn.content, missing)]
            for place, turn in turns
            if any(remote_file(block) in missing for block in turn.content)
        }
        stored.replace_contents(tx, call.thread, contents)


def _question_blocks(question: Message) -> list[dict[str, object]]:
    content = question["content"]
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [dict(block) for block in cast("list[Block]", content)]


def _prefix_digest(tx: Transaction, call: Call, sent: SentTurn | None) -> str:
    """The digest to store with an answer; empty where its thinking would be refused sooner or later.

    The bytes behind a URL may change at any time, and what was refused for an unknown reason twice is refused again.
    """
    if sent is None or (thread := stored.find_thread(tx, call.thread, call.user)) is None:
        return ""
    blocks = (*call.attachments, *(block for past in call.history for block in past.content))
    has_urls = any(cast("Mapping[str, object]", block.get("source") or {}).get("type") == "url" for block in blocks)
    limit = 1 if has_urls else MAX_THINKING_REFUSALS
    return sent.prefix_digest if thread.thinking_refusals < limit else ""


def with_history(call: Call, transcript: ThreadTranscript) -> Call:
    """The call with what its thread sends before its question.

    A call that asks for tools may also use the server tools that the thread has already: they cannot be distinguished
    within a request. One that asks for none uses none.
    """
    thread = transcript.thread
    definitions = tuple(thread.definitions)
    known = merge_definitions(definitions, *(message.added_tools for message in transcript.turns))
    server_tools = tuple(name for name in abilities_in(known) if name != "read" and name not in call.tools)
    return replace(
        call,
        system=thread.system,
        rules=_new_rules(call, transcript),
        definitions=definitions,
        drops_thinking_blocks=bool(thread.drops_thinking),
        merges_tools=bool(thread.merges_tools),
        tools=(*call.tools, *server_tools) if call.tools else (),
        history=tuple(
            PastMessage(
                role=message.role,
                content=message.content,
                rules=message.rules,
                prefix_digest=message.prefix_digest,
                model=message.model,
                added_tools=message.added_tools,
            )
            for message in transcript.turns
        ),
    )


def _new_rules(call: Call, transcript: ThreadTranscript) -> str:
    """The rules that begin to hold with this call; empty where they hold already, or the call brings none."""
    current = next((turn.rules for turn in reversed(transcript.turns) if turn.rules), transcript.thread.system)
    return call.system if call.system != current else ""


def render_answer(turn: ThreadMessage) -> str:
    """The text of an answer as it was streamed, with a paragraph break where a tool was used, and its sources."""
    text, worked = "", False
    for block in turn.content:
        piece = str(block.get("text") or "") if block.get("type") == "text" else ""
        if piece:
            text += as_paragraph(text, piece) if worked else piece
        worked = not piece and (worked or block.get("type") == "server_tool_use")
    return text + citations.sources_markdown(citations.extract_citations(turn.content))


def blocks_to_store(reply: Reply) -> list[Block]:
    """The blocks of a reply that a thread stores: blocks unchanged, only text where it was cut, joined or held to
    a schema.
    """
    reason = reply.usage.stop_reason
    if reply.structured_output is not None or reply.usage.resumed or reason in {None, "tool_use", "pause_turn"}:
        return text_blocks_of(reply.text)
    if any(block.get("type") == "tool_use" for block in reply.blocks):  # their results are not kept
        return text_blocks_of(reply.text)
    if not _has_all_tool_results(reply.blocks):
        return text_blocks_of(reply.text)
    blocks = _without_blank_text(reply.blocks)
    return blocks if any(block.get("type") not in THINKING_BLOCK_TYPES for block in blocks) else []


def _without_blank_text(blocks: Sequence[Block]) -> list[Block]:
    """The blocks without text blocks that are blank, which the API refuses, and without thinking bound to these."""
    result: list[Block] = []
    is_complete = True
    for block in blocks:
        if block.get("type") == "text" and is_blank(str(block.get("text") or "")):
            is_complete = False
        elif is_complete or block.get("type") not in THINKING_BLOCK_TYPES:
            result.append(block)
    return result


def _has_all_tool_results(blocks: Sequence[Block]) -> bool:
    """True if each server tool has given its result: in a turn that is over, one without is refused by the API."""
    used = [block.get("id") for block in blocks if block.get("type") == "server_tool_use"]
    done = {block.get("tool_use_id") for block in blocks}
    return all(name in done for name in used)


def text_blocks_of(text: str) -> list[Block]:
    return [{"type": "text", "text": replace_lone_surrogates(text)}] if not is_blank(text) else []
