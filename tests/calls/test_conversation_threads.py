from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.types import ResourceLink, TextContent

from mcp_server_claude.call_types import Call
from mcp_server_claude.calls.thread_transcripts import store_answer_and_unlock
from mcp_server_claude.simulator import Pace, Simulator, directive
from mcp_server_claude.store import call_journal, process_locks, thread_messages
from support.chaos.call_results import poll_until
from support.mcp_session import ProgressUpdate, connect, failure_meta, text_blocks, usage_meta
from support.quick_run import examples
from support.server_database import open_store, select_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mcp.types import CallToolResult

    from support.mcp_session import McpSession

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_database")]

LONG = "context " * 4000
TOO_LATE: list[dict[str, object]] = [{"type": "text", "text": "Too late."}]


def thread_of(result: CallToolResult) -> str:
    return cast("str", usage_meta(result)["thread"])


def last_messages(api: Simulator) -> list[dict[str, object]]:
    body = [record for record in api.requests if record.path == "/v1/messages"][-1].body
    assert isinstance(body, dict)
    return cast("list[dict[str, object]]", body["messages"])


def text_in(message: dict[str, object]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    return "".join(str(block.get("text") or "") for block in cast("list[dict[str, object]]", content))


def is_a_conversation(turns: list[thread_messages.ThreadMessage]) -> bool:
    """Questions and answers in turn, none of them empty: what the API takes."""
    roles = [turn.role for turn in turns]
    all_have_text = all(any(block.get("type") != "thinking" for block in turn.content) for turn in turns)
    return all_have_text and roles == ["user", "assistant"] * (len(roles) // 2)


async def turns_on_disk(data_dir: Path, thread: str) -> list[thread_messages.ThreadMessage]:
    store = await anyio.to_thread.run_sync(open_store, data_dir)
    try:
        return await store.read(thread_messages.thread_history, thread)
    finally:
        await store.close()


async def test_a_thread_sends_the_whole_history_with_thinking_and_signatures_unchanged(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        first = await session.ask("What is tea?", model="opus", system="Be kind.")
        second = await session.ask("And coffee?", thread=thread_of(first))
        question, answer, follow_up = last_messages(upstream)
        assert text_in(question) == "What is tea?"
        blocks = cast("list[dict[str, object]]", answer["content"])
        assert [block["type"] for block in blocks] == ["thinking", "text"]
        assert blocks[0]["signature"]
        assert text_in(answer) == text_blocks(first)[0]
        assert text_in(follow_up) == "And coffee?"
        body = upstream.requests[-1].body
        assert isinstance(body, dict)
        assert (body["model"], body["system"]) == ("claude-opus-5-5", "Be kind.")
        assert thread_of(second) == thread_of(first)


async def test_a_follow_up_reads_the_history_from_the_cache_and_the_footer_shows_the_saving(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        first = await session.ask(LONG, model="opus")
        second = await session.ask("Go on.", thread=thread_of(first))
        written = cast("int", usage_meta(first)["cache_creation_input_tokens"])
        assert written > 5000
        assert usage_meta(second)["cache_read_input_tokens"] == written
        assert "cached, saved $" in text_blocks(second)[-1]


async def test_an_hour_of_cache_costs_what_the_price_list_states(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, cache="1h") as session:
        used = usage_meta(await session.ask(LONG, model="opus"))
        written, rest = cast("int", used["cache_creation_input_tokens"]), cast("int", used["input_tokens"])
        out = cast("int", used["output_tokens"])
        assert used["cost_usd"] == pytest.approx((written * 8 + rest * 4 + out * 20) / 1e6)


async def test_without_caching_no_breakpoint_is_set(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, cache="off") as session:
        used = usage_meta(await session.ask(LONG, model="opus"))
        assert used["cache_creation_input_tokens"] == 0


async def test_threads_outlive_the_server_and_the_client(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("stdio", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = thread_of(await session.ask("Remember the word jasmine."))
    async with connect("stdio", "legacy", tmp_path / "data", base_url=upstream.url) as session:
        await session.ask("Which word?", thread=thread)
        assert text_in(last_messages(upstream)[0]) == "Remember the word jasmine."


async def test_simultaneous_continuations_of_a_thread_run_one_after_the_other(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = thread_of(await session.ask("One."))
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(session.ask, f"Question {number}.")
                tasks.start_soon(_ask_in, session, thread, number)
    turns = await turns_on_disk(tmp_path / "data", thread)
    assert len(turns) == 10
    assert is_a_conversation(turns)


async def _ask_in(session: McpSession, thread: str, number: int) -> None:
    assert not (await session.ask(f"Follow-up {number}.", thread=thread)).is_error


async def test_a_call_waits_for_a_thread_that_another_process_has_locked_and_reports_it(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with (
        connect("stdio", "auto", tmp_path / "data", base_url=upstream.url) as here,
        connect("stdio", "auto", tmp_path / "data", base_url=upstream.url) as there,
    ):
        thread = thread_of(await here.ask("One."))
        answers: list[CallToolResult] = []
        updates: list[ProgressUpdate] = []

        async def ask_second() -> None:
            answers.append(await there.ask("Three.", thread=thread, updates=updates, style="status"))

        async with anyio.create_task_group() as tasks:
            count_before = len(upstream.requests)
            holding = f"Two. {directive(tokens=400, fault='stall', at=90)}"
            holder = anyio.CancelScope()
            tasks.start_soon(_ask_in_scope, holder, here, holding, thread)
            with anyio.fail_after(60):
                await upstream.wait_for_requests(count_before + 1)
                tasks.start_soon(ask_second)
                await poll_until(lambda: any("another server is answering" in str(each.message) for each in updates))
                assert not answers
                holder.cancel()
    assert text_blocks(answers[0])[0]
    assert is_a_conversation(await turns_on_disk(tmp_path / "data", thread))


async def _ask_in_scope(scope: anyio.CancelScope, session: McpSession, prompt: str, thread: str) -> None:
    with scope:
        await session.ask(prompt, thread=thread)


@pytest.mark.slow  # it waits for a deadline that a busy machine reaches only at the thread
async def test_a_thread_that_stays_locked_until_the_deadline_is_an_error(upstream: Simulator, tmp_path: Path) -> None:
    async with (
        connect("stdio", "auto", tmp_path / "data", base_url=upstream.url) as here,
        connect("stdio", "auto", tmp_path / "data", base_url=upstream.url, deadline_s=12) as there,
    ):
        thread = thread_of(await here.ask("One."))
        await there.ask("Are you warm?")
        async with anyio.create_task_group() as tasks:
            slow = f"Slowly. {directive(tokens=400, fault='stall', at=90)}"
            count_before = len(upstream.requests)
            tasks.start_soon(lambda: here.ask(slow, thread=thread))
            with anyio.fail_after(120):
                await upstream.wait_for_requests(count_before + 1)
            refused = await there.ask("Me too.", thread=thread)
            assert failure_meta(refused)["kind"] == "thread_busy"
            assert "Another server process" in text_blocks(refused)[0]
            tasks.cancel_scope.cancel()


async def test_a_call_that_has_lost_the_lock_of_its_thread_changes_nothing_in_it(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = thread_of(await session.ask("One."))
    turns = await turns_on_disk(tmp_path / "data", thread)
    store = open_store(tmp_path / "data")
    await store.write(store_answer_and_unlock, Call(prompt="Two.", thread=thread), TOO_LATE, None)
    await store.close()
    assert await turns_on_disk(tmp_path / "data", thread) == turns


@pytest.mark.parametrize("how", ["max_tokens", "cancel", "fault"])
async def test_an_answer_that_was_cut_is_continued(upstream: Simulator, tmp_path: Path, how: str) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, max_retries=0) as session:
        thread = thread_of(await session.ask("One."))
        if how == "max_tokens":
            cut = text_blocks(await session.ask("Two.", thread=thread, max_tokens=100))[0]
        elif how == "fault":
            cut = text_blocks(await session.ask(f"Two. {directive(fault='drop', at=100)}", thread=thread))[0]
        else:
            await _cancel_call(session, upstream, thread)
            cut = ""
        await session.ask("Go on.", thread=thread)
        *_, partial, last = last_messages(upstream)
        assert partial["role"] == "assistant"
        assert text_in(last) == "Go on."
        assert text_in(partial).startswith(cut or "You")
        assert len(last_messages(upstream)) == 5


async def _cancel_call(session: McpSession, api: Simulator, thread: str) -> None:
    """A call that is given up after its first words."""
    reported = anyio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        del progress, total
        if message:
            reported.set()

    async with anyio.create_task_group() as tasks:
        arguments = {"prompt": f"Two. {directive(pace=50, tokens=4000)}", "thread": thread}
        tasks.start_soon(lambda: session.client.call_tool("claude_ask", arguments, progress_callback=on_progress))
        with anyio.fail_after(20):
            await reported.wait()
        tasks.cancel_scope.cancel()
    with anyio.fail_after(20):
        await api.wait_until_idle()


async def test_a_failed_call_leaves_no_trace_in_the_thread(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = thread_of(await session.ask("One."))
        assert (await session.ask(f"Two. {directive(fault='status', status=400)}", thread=thread)).is_error
        await session.ask("Three.", thread=thread)
        assert [text_in(message) for message in last_messages(upstream)][2:] == ["Three."]


async def test_the_text_of_a_killed_process_becomes_a_turn(upstream: Simulator, tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with connect("memory", "auto", data, base_url=upstream.url) as session:
        thread = thread_of(await session.ask("One."))

        def die(
            tx: thread_messages.Transaction,
        ) -> None:  # what such a process leaves behind: its question, its journal, an old lease
            process_locks.register_process(tx, "w_dead")
            assert thread_messages.lock_thread(tx, thread, call_id="c_dead", worker="w_dead", now=1000.0) is not None
            thread_messages.append_message(
                tx,
                thread,
                thread_messages.ThreadMessage(role="user", content=[_text("Two.")], model="", call_id="c_dead"),
            )
            call_journal.open_call(tx, call_journal.JournaledCall(id="c_dead", worker="w_dead", started_at=1000.0))
            call_journal.append_text(tx, [("c_dead", 0, "Half an ans")])

        store = await anyio.to_thread.run_sync(open_store, data)
        await store.write(die)
        await store.close()
        await session.ask("Go on.", thread=thread)
        assert [text_in(message) for message in last_messages(upstream)][2:] == ["Two.", "Half an ans", "Go on."]


def _text(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


async def test_another_model_is_sent_all_thinking_since_the_api_drops_unreadable_blocks(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = thread_of(await session.ask("One.", model="opus"))
        await session.ask("Two.", model="sonnet", thread=thread)
        kinds = [block["type"] for block in cast("list[dict[str, object]]", last_messages(upstream)[1]["content"])]
        assert kinds == ["thinking", "text"]


async def test_an_unknown_thread_is_rejected_before_anything_is_sent(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        refused = await session.ask("Hello.", thread="t_0000000000000000")
        assert "no thread with that id" in text_blocks(refused)[0]
        assert failure_meta(refused)["kind"] == "not_found"
        assert not [record for record in upstream.requests if record.path == "/v1/messages"]


async def test_with_no_retention_nothing_is_stored_and_a_thread_is_rejected(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, retention_days=0) as session:
        result = await session.ask("A secret.")
        assert usage_meta(result)["thread"] is None
        assert "keeps no threads" in text_blocks(await session.ask("Go on.", thread="t_1"))[0]
    assert select_rows(tmp_path / "data", "select count(*) as n from thread") == [{"n": 0}]
    assert select_rows(tmp_path / "data", "select count(*) as n from turn") == [{"n": 0}]


async def test_threads_are_listed_by_recency_and_read_as_transcripts_and_resources(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        older = thread_of(await session.ask("The older one."))
        newer = thread_of(await session.ask("The newer one."))
        await session.ask("Again the older.", thread=older)
        listing = text_blocks(await session.client.call_tool("claude_jobs", {}))[1]
        assert listing.index(older) < listing.index(newer)
        assert "The older one." in listing
        transcript, line = text_blocks(await session.client.call_tool("claude_jobs", {"id": older}))
        assert transcript.startswith("## Question\n\nThe older one.\n\n## Answer\n\n")
        assert line == f"[{older} · 4 turns]"
        (content,) = (await session.client.read_resource(f"claude://threads/{older}")).contents
        assert getattr(content, "text", "") == transcript


async def test_an_unknown_thread_is_reported_before_any_file_is_read(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask("Go on.", thread="t_0000000000000000", model="opus", files=["/nowhere/at/all.txt"])
    assert "There is no thread with that id" in text_blocks(result)[0]


async def test_a_transcript_has_the_sources_and_paragraphs_of_the_answer(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        searched = await session.ask(f"What is new in tea? {directive(search='on')}", tools=["web"], model="haiku")
        first = text_blocks(await session.client.call_tool("claude_jobs", {"id": thread_of(searched)}))[0]
        computed = await session.ask(f"Compute it. {directive(code='on')}", tools=["code"], model="haiku")
        second = text_blocks(await session.client.call_tool("claude_jobs", {"id": thread_of(computed)}))[0]
    assert "\n\nSources:\n\n1. [" in text_blocks(searched)[0]
    assert first.endswith(f"## Answer\n\n{text_blocks(searched)[0]}")
    assert second.endswith(f"## Answer\n\n{text_blocks(computed)[0]}")


async def test_a_transcript_lists_its_files_and_is_paged_beyond_the_limit(
    upstream: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "long.txt").write_text("context " * 4000, encoding="utf-8")
    (tmp_path / "dot.gif").write_bytes(b"GIF89a\1\0\1\0\0\0\0;")
    monkeypatch.chdir(tmp_path)
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, inline_chars=1000) as session:
        thread = thread_of(await session.ask("What is it? [[sim: tokens=900]]", files=["long.txt", "dot.gif"]))
        head, link, cut, line = (await session.client.call_tool("claude_jobs", {"id": thread})).content
        assert isinstance(head, TextContent)
        begins = "## Question\n\n[text: long.txt]\n[image: dot.gif]\n\nWhat is it? [[sim: tokens=900]]\n\n## Answer\n\n"
        assert head.text.startswith(begins)
        assert len(head.text) <= 1000
        assert isinstance(link, ResourceLink)
        assert link.uri == f"claude://threads/{thread}"
        assert isinstance(cut, TextContent)
        assert f"claude://threads/{thread}?offset={len(head.text)} continues from here" in cut.text
        assert isinstance(line, TextContent)
        assert line.text == f"[{thread} · 2 turns]"

        async def read(address: str) -> str:
            (content,) = (await session.client.read_resource(address)).contents
            return str(getattr(content, "text", ""))

        complete = await read(link.uri)
        assert complete.startswith(head.text)
        page = await read(f"{link.uri}?offset={len(head.text)}&limit=100")
        assert page.startswith(complete[len(head.text) :][:100] + "\n\nNEXT: claude://threads/")


async def test_a_cut_answer_names_the_thread_that_continues_it(upstream: Simulator, tmp_path: Path) -> None:
    cuts: list[dict[str, Any]] = [
        {"prompt": "Tell me. [[sim: tokens=200 think=10]]", "max_tokens": 50},
        {"prompt": "Tell me. [[sim: tokens=5000 think=10]]", "max_usd": 0.001},
        {"prompt": "Tell me. [[sim: tokens=200 fault=drop at=90]]"},
    ]
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, max_retries=0) as session:
        for cut in cuts:
            result = await session.ask(**cut)
            assert text_blocks(result)[-1].startswith("INCOMPLETE: ")
            assert f"Ask for the rest in thread {thread_of(result)}" in text_blocks(result)[-1]
            assert not (await session.ask("Go on.", thread=thread_of(result))).is_error


@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000))
def test_the_stored_history_is_always_a_conversation(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    # Not `anyio.run`: it refuses while a fixture of the whole session, such as the browser, keeps a loop for later.
    asyncio.run(_mixed_up(random.Random(seed), tmp_path_factory.mktemp("data") / "data"))


async def _mixed_up(dice: random.Random, data: Path) -> None:
    """Continuations, cancels, faults and a restart, some at once; after the restart from two processes."""
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api:
        fields: dict[str, Any] = {"base_url": api.url, "max_retries": 0}
        async with connect("memory", "auto", data, **fields) as session:
            thread = thread_of(await session.ask("Begin."))
            await _at_once([session], thread, dice)
        async with (
            connect("memory", "auto", data, **fields) as here,
            connect("stdio", "auto", data, **fields) as there,
        ):
            await _at_once([here, there], thread, dice)
        turns = await turns_on_disk(data, thread)
        assert is_a_conversation(turns)
        assert len(turns) >= 2


async def _at_once(sessions: Sequence[McpSession], thread: str, dice: random.Random) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            for session in sessions:
                tasks.start_soon(_something, session, thread, dice)


async def _something(session: McpSession, thread: str, dice: random.Random) -> None:
    match dice.choice(["plain", "status", "drop", "eof", "cancel", "short"]):
        case "status":
            await session.ask(f"x {directive(fault='status', status=400)}", thread=thread)
        case "drop" | "eof" as fault:
            await session.ask(f"x {directive(fault=fault, at=dice.choice([0, 50, 150]))}", thread=thread)
        case "short":
            await session.ask("x", thread=thread, max_tokens=dice.choice([1, 5, 50]))
        case "cancel":
            with anyio.move_on_after(dice.random() / 20):
                await session.ask(f"x {directive(pace=300)}", thread=thread)
        case _:
            await session.ask("x", thread=thread, model=dice.choice(["opus", "sonnet", ""]))


async def test_old_threads_are_deleted_even_those_of_a_dead_process(upstream: Simulator, tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with connect("memory", "auto", data, base_url=upstream.url) as session:
        kept, held = thread_of(await session.ask("Kept.")), thread_of(await session.ask("Held."))

        def age(tx: thread_messages.Transaction) -> int:
            tx.execute(
                "update thread set touched_at = 1000.0, holder = 'c', worker = 'w_dead' where id = :id", {"id": held}
            )
            return thread_messages.delete_inactive_threads(tx, 2000.0)

        store = await anyio.to_thread.run_sync(open_store, data)
        assert await store.write(age) == 1
        assert await store.read(thread_messages.thread_history, held) == []
        assert len(await store.read(thread_messages.thread_history, kept)) == 2
        await store.close()
