"""Conversations of many turns: the history goes in, the newest turn streams, the answer joins the history.

What is kept is what the API needs to see again: the blocks of an answer unchanged, thinking and signatures too; of an
answer that was cut or joined from several streams its text alone. At any moment the stored history is a conversation
that the API takes: questions and answers in turn.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import TYPE_CHECKING, cast

import anyio

from mcp_server_claude.call_types import THINKING_BLOCK_TYPES, PastMessage, Reply, Waiting
from mcp_server_claude.engine import citations
from mcp_server_claude.engine.answer_buffer import as_paragraph
from mcp_server_claude.engine.thread_history import abilities_in, has_definitions
from mcp_server_claude.engine.thread_repair import remote_file, without_missing_files
from mcp_server_claude.errors import CallError, RequestError, TemporaryError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.store import StoreError, call_journal, process_locks, store_errors_as
from mcp_server_claude.store import thread_messages as stored

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from mcp_server_claude.call_types import Block, Call, Listener, Message, SentTurn
    from mcp_server_claude.engine.engine import CostEstimate, Engine
    from mcp_server_claude.engine.prepared_call import PreparedCall
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.process_locks import ProcessLocks
    from mcp_server_claude.store.thread_messages import AnswerStatus, Thread, ThreadCursor, ThreadMessage
    from mcp_server_claude.text_log import TextLog

MAX_LATEST_THREADS = 10
THREAD_BUSY_RETRY_S = 5.0
"""Seconds after which a client is told to try a busy thread again."""
MAX_REMEMBERED_CONTAINERS = 10_000
"""Conversations of which it is remembered where their code ran."""
MAX_THINKING_REFUSALS = 2
"""Refusals of earlier thinking after which a thread sends none any more."""
THREAD_ID_PREFIX = "t_"
CALL_ID_PREFIX = "c_"


@dataclass(slots=True)
class _ThreadLock:
    """One call at a time for each conversation of this process."""

    lock: anyio.Lock
    waiting_calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadTranscript:
    """A conversation with its turns."""

    thread: Thread
    turns: Sequence[ThreadMessage]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptWithCosts(ThreadTranscript):
    """A conversation with what became of its calls, and what it cost in micro-dollars."""

    answers: Mapping[str, AnswerStatus]
    cost_micros: int


class ConversationThreads:
    """Continues conversations, one call at a time each, across restarts and processes."""

    def __init__(self, settings: Settings, engine: Engine, store: Store) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._thread_locks: dict[str, _ThreadLock] = {}
        self._containers: OrderedDict[str, str] = OrderedDict()

    async def answer_in_thread(self, call: Call, listener: Listener, text: TextLog) -> Reply:
        """Answer a call within its conversation, a new one where it names none.

        Raises:
            RequestError: There is no such conversation.
            TemporaryError: Another process is answering in it.
            CallError: See `Engine.answer`.
        """
        if not self._settings.retention_days:
            if call.thread:
                raise RequestError("This server keeps no threads (MCP_CLAUDE_RETENTION_DAYS=0). Ask without one.")
            return await self._engine.run_call(await self._engine.prepare_call(call, listener), listener, text)
        call = self.assign_thread_id(replace(call, thread=call.thread.strip()))
        if not call.starts_thread:  # it must be there before any files are read, or uploaded
            transcript = await self.read_transcript(call.thread, call.user)
            call = replace(call, model=call.model or transcript.thread.model)
        prepared = await self._engine.prepare_call(call, listener)
        async with self.exclusive_access(prepared, listener):
            return await self._continue_thread(prepared, listener, text)

    async def check_call(self, call: Call) -> Call:
        """Check a call that is to be answered later. Returns it with the ids of its model and of its conversation.

        Raises:
            CallError: There is no such conversation, or the call cannot be sent like this.
        """
        thread_id = call.thread.strip()
        if thread_id:
            transcript = await self.read_transcript(thread_id, call.user)
            call = replace(call, model=call.model or transcript.thread.model)
        prepared = await self._engine.prepare_call(call)
        return self.assign_thread_id(replace(call, model=prepared.model.id))

    async def answer_alone(self, call: Call, listener: Listener, text: TextLog) -> Reply:
        """Answer a call outside of any conversation.

        Raises:
            CallError: See `Engine.run_call`.
        """
        return await self._engine.run_call(await self._engine.prepare_call(call, listener), listener, text)

    def assign_thread_id(self, call: Call) -> Call:
        """The call with the id of its conversation, a fresh one where it names none and threads are kept."""
        if call.thread.strip() or not self._settings.retention_days:
            return call
        return replace(call, thread=f"{THREAD_ID_PREFIX}{token_hex(8)}", starts_thread=True)

    async def estimate_call_cost(self, call: Call) -> tuple[CostEstimate, ...]:
        """Estimate the cost of a call within its conversation; see `Engine.quote`.

        Raises:
            CallError: There is no such conversation, or the call cannot be sent like this.
        """
        thread_id = call.thread.strip()
        if not thread_id:
            return await self._engine.estimate_costs(await self._engine.prepare_call(call))
        transcript = await self.read_transcript(thread_id, call.user)
        prepared = await self._engine.prepare_call(replace(call, model=call.model or transcript.thread.model))
        return await self._engine.estimate_costs(prepared.with_call(_with_history(prepared.call, transcript)))

    async def read_transcript(self, thread_id: str, user: str) -> ThreadTranscript:
        """A user's conversation, whole.

        Raises:
            RequestError: There is none of that id.
            ConfigurationError: It could not be read.
        """
        with store_errors_as("The thread could not be read"):
            transcript = await self._store.write(_read_thread_transcript, thread_id, user)
        if transcript is None:
            raise await self._unknown_thread_error(thread_id, user)
        return transcript

    async def latest_threads(self, user: str) -> list[Thread]:
        """A user's latest conversations.

        Raises:
            ConfigurationError: They could not be read.
        """
        with store_errors_as("The threads could not be read"):
            return await self._store.write(stored.recent_threads, user, MAX_LATEST_THREADS)

    async def latest_threads_with_costs(
        self, user: str, limit: int, after: ThreadCursor | None = None
    ) -> list[tuple[Thread, int]]:
        """A page of a user's conversations, the latest first, each with its cost in micro-dollars.

        `after` is the cursor of the last conversation of the page before.

        Raises:
            ConfigurationError: They could not be read.
        """
        with store_errors_as("The threads could not be read"):
            return await self._store.write(stored.threads_with_cost, user, limit, after)

    async def read_transcript_with_costs(self, thread_id: str, user: str) -> TranscriptWithCosts:
        """A user's conversation with what became of its calls.

        Raises:
            RequestError: There is none of that id.
            ConfigurationError: It could not be read.
        """
        transcript = await self.read_transcript(thread_id, user)
        with store_errors_as("The thread could not be read"):
            answers, cost = await self._store.write(_read_answers_and_cost, thread_id)
        return TranscriptWithCosts(thread=transcript.thread, turns=transcript.turns, answers=answers, cost_micros=cost)

    async def delete_thread(self, thread_id: str, user: str) -> None:
        """Delete a user's conversation with its text.

        Raises:
            RequestError: There is none of that id.
            ConfigurationError: It could not be deleted.
        """
        with store_errors_as("The thread could not be deleted"):
            deleted = await self._store.write(stored.delete_thread, thread_id, user)
        if not deleted:
            raise await self._unknown_thread_error(thread_id, user)

    async def _continue_thread(self, prepared: PreparedCall, listener: Listener, text: TextLog) -> Reply:
        call, new = prepared.call, prepared.call.starts_thread
        try:
            beginning = await self._store.write(_lock_and_add_question, call, self._store.locks, time.time(), new=new)
        except StoreError as error:
            if new:  # the answer matters more than that it can be gone on from
                alone = prepared.with_call(replace(call, thread="", starts_thread=False))
                return await self._engine.run_call(alone, listener, text)
            raise TemporaryError(f"The thread could not be read: {error}", kind="store") from error
        except BaseException:  # cancelled while it was being taken: it will be taken all the same
            self._store.write_nowait(_store_answer_and_unlock, call, (), None)
            raise
        if beginning is None:
            raise await self._unknown_thread_error(call.thread, call.user)
        if isinstance(beginning, str):
            raise TemporaryError(beginning, kind="thread_busy", retry_after_s=THREAD_BUSY_RETRY_S)
        call = _with_history(call, beginning)
        uses_code = "code" in call.tools or has_definitions("code", call.definitions)
        if uses_code:
            call = replace(call, container_id=self._containers.get(call.thread, ""))
        answer: list[Block] = []
        sent: SentTurn | None = None
        try:
            reply = await self._engine.run_call(prepared.with_call(call), listener, text)
            answer, sent = _blocks_to_store(reply), reply.sent
            if uses_code:
                self._remember_container(call.thread, reply.container_id)
        except CallError:
            raise
        except BaseException:  # cancelled: what was written stays, as in the journal
            answer = _text_blocks(text.whole())
            raise
        finally:
            # Posted, not awaited: a cancelled call does not wait, and the next turn's write comes after this one.
            self._store.write_nowait(_store_answer_and_unlock, call, answer, sent)
        return reply

    async def _unknown_thread_error(self, thread_id: str, user: str) -> RequestError:
        """The error for an unknown thread. The id of a call, given in its place, is recognized."""
        record = None
        if thread_id.startswith(CALL_ID_PREFIX):
            with suppress(StoreError):
                record = await self._store.write(call_journal.find_call, thread_id, user)
        if record is not None and record.thread:
            return RequestError(f"{thread_id} is a call; its thread is {record.thread}.", kind="not_found")
        return RequestError(
            f"There is no thread of that id; threads are kept for {self._settings.retention_days:g} days. claude_jobs "
            "lists the latest; leave thread out to begin a new one.",
            kind="not_found",
        )

    def _remember_container(self, thread_id: str, container: str) -> None:
        """Remember where a conversation's code ran; after a restart its next code runs in a new container."""
        if container:
            self._containers[thread_id] = container
            self._containers.move_to_end(thread_id)
            if len(self._containers) > MAX_REMEMBERED_CONTAINERS:
                self._containers.popitem(last=False)
        else:
            self._containers.pop(thread_id, None)

    @asynccontextmanager
    async def exclusive_access(self, prepared: PreparedCall, listener: Listener) -> AsyncGenerator[None]:
        """This process's turn in a conversation; who has to wait for it is told so.

        Raises:
            TemporaryError: The deadline of the call has passed.
        """
        thread_id = prepared.call.thread
        thread_lock = self._thread_locks.setdefault(thread_id, _ThreadLock(anyio.Lock()))
        thread_lock.waiting_calls += 1
        try:
            if thread_lock.waiting_calls > 1:
                listener(Waiting("waiting for the thread, another call is answering in it"))
            with prepared.deadline.enforce():
                await thread_lock.lock.acquire()
            try:
                yield
            finally:
                thread_lock.lock.release()
        finally:
            thread_lock.waiting_calls -= 1
            if not thread_lock.waiting_calls:
                del self._thread_locks[thread_id]


def _lock_and_add_question(
    tx: Transaction, call: Call, locks: ProcessLocks, now: float, *, new: bool
) -> ThreadTranscript | str | None:
    """Take the conversation and add the question; None where there is none, a sentence where another has it."""
    process_locks.register_process(tx, locks.worker)
    process_locks.remove_dead_processes(tx, locks)
    if new:
        head = " ".join(call.prompt[:400].split())[:200]
        stored.create_thread(
            tx,
            stored.Thread(
                id=call.thread,
                user=call.user,
                head=head,
                system=call.system,
                model=call.model,
                started_at=now,
                touched_at=now,
            ),
        )
    thread = stored.find_thread(tx, call.thread, call.user)
    if thread is None:
        return None
    if not stored.lock_thread(tx, call.thread, call_id=call.id, worker=locks.worker, now=now):
        return "Another server process is answering in this thread. Try again when it has, or ask without a thread."
    transcript = ThreadTranscript(thread=thread, turns=stored.thread_history(tx, call.thread))
    question = stored.ThreadMessage(
        role="user",
        content=[dict(block) for block in (*call.attachments, {"type": "text", "text": call.prompt})],
        model="",
        call_id=call.id,
        rules=_new_rules(call, transcript),
    )
    stored.append_message(tx, call.thread, question)
    return transcript


def _store_answer_and_unlock(tx: Transaction, call: Call, answer: Sequence[Block], sent: SentTurn | None) -> None:
    """Append the answer, or remove the question where there is none, and unlock the thread.

    Without an answer nothing else changes: a call that failed must not change what later ones send.
    """
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


def _read_thread_transcript(tx: Transaction, thread_id: str, user: str) -> ThreadTranscript | None:
    thread = stored.find_thread(tx, thread_id, user)
    return None if thread is None else ThreadTranscript(thread=thread, turns=stored.thread_history(tx, thread_id))


def _read_answers_and_cost(tx: Transaction, thread_id: str) -> tuple[dict[str, AnswerStatus], int]:
    return stored.answer_statuses(tx, thread_id), stored.thread_cost_micros(tx, thread_id)


def _store_sent_turn(tx: Transaction, call: Call, sent: SentTurn) -> None:
    """Store what later turns must send unchanged."""
    if sent.question != call.user_message():
        # Files of earlier turns were put into a new container with it, or the schema was added in words.
        stored.replace_question(tx, call.thread, call.id, _question_blocks(sent.question))
    if sent.definitions != call.definitions:
        stored.set_definitions(tx, call.thread, [dict(definition) for definition in sent.definitions])
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
    thread = stored.find_thread(tx, call.thread, call.user)
    if sent is None or thread is None:
        return ""
    blocks = (*call.attachments, *(block for past in call.history for block in past.content))
    has_urls = any(cast("Mapping[str, object]", block.get("source") or {}).get("type") == "url" for block in blocks)
    limit = 1 if has_urls else MAX_THINKING_REFUSALS
    return sent.prefix_digest if thread.thinking_refusals < limit else ""


def _with_history(call: Call, transcript: ThreadTranscript) -> Call:
    """The call with what its thread sends before its question.

    A call that asks for tools may also use the server tools that the thread has already: they cannot be told apart
    within a request. One that asks for none uses none.
    """
    thread = transcript.thread
    definitions = tuple(thread.definitions)
    server_tools = tuple(name for name in abilities_in(definitions) if name != "read" and name not in call.tools)
    return replace(
        call,
        system=thread.system,
        rules=_new_rules(call, transcript),
        definitions=definitions,
        drops_thinking_blocks=bool(thread.drops_thinking),
        tools=(*call.tools, *server_tools) if call.tools else (),
        history=tuple(
            PastMessage(
                role=message.role,
                content=message.content,
                rules=message.rules,
                prefix_digest=message.prefix_digest,
                model=message.model,
            )
            for message in transcript.turns
        ),
    )


def _new_rules(call: Call, transcript: ThreadTranscript) -> str:
    """The rules that begin to hold with this call; empty where they hold already, or the call brings none."""
    current = next((turn.rules for turn in reversed(transcript.turns) if turn.rules), transcript.thread.system)
    return call.system if call.system != current else ""


def render_answer(turn: ThreadMessage) -> str:
    """The text of an answer as it was told: set apart where a tool was at work in between, its sources beneath."""
    text, worked = "", False
    for block in turn.content:
        piece = str(block.get("text") or "") if block.get("type") == "text" else ""
        if piece:
            text += as_paragraph(text, piece) if worked else piece
        worked = not piece and (worked or block.get("type") == "server_tool_use")
    return text + citations.sources_markdown(citations.extract_citations(turn.content))


def _blocks_to_store(reply: Reply) -> list[Block]:
    """The blocks of a reply that a thread stores: blocks unchanged, only text where it was cut, joined or held to
    a schema.
    """
    reason = reply.usage.stop_reason
    if reply.structured_output is not None or reply.usage.resumed or reason in {None, "tool_use", "pause_turn"}:
        return _text_blocks(reply.text)
    if any(block.get("type") == "tool_use" for block in reply.blocks):  # their results are not kept
        return _text_blocks(reply.text)
    if not _has_all_tool_results(reply.blocks):
        return _text_blocks(reply.text)
    blocks = _without_blank_text(reply.blocks)
    return blocks if any(block.get("type") not in THINKING_BLOCK_TYPES for block in blocks) else []


def _without_blank_text(blocks: Sequence[Block]) -> list[Block]:
    """The blocks without text blocks that are blank, which the API refuses, and without thinking bound to these."""
    result: list[Block] = []
    is_complete = True
    for block in blocks:
        if block.get("type") == "text" and not str(block.get("text") or "").strip():
            is_complete = False
        elif is_complete or block.get("type") not in THINKING_BLOCK_TYPES:
            result.append(block)
    return result


def _has_all_tool_results(blocks: Sequence[Block]) -> bool:
    """True if each server tool has given its result: in a turn that is over, one without is refused by the API."""
    used = [block.get("id") for block in blocks if block.get("type") == "server_tool_use"]
    done = {block.get("tool_use_id") for block in blocks}
    return all(name in done for name in used)


def _text_blocks(text: str) -> list[Block]:
    return [{"type": "text", "text": replace_lone_surrogates(text)}] if text.strip() else []
