from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import anyio
import httpx2
import pytest

from mcp_server_claude.call_types import CHARS_PER_TOKEN
from mcp_server_claude.engine.continuation import ANCHOR_CHARS, CONTINUE_PROMPT
from mcp_server_claude.engine.next_step import MAX_CONTINUATIONS, MAX_PAUSE_TURNS
from mcp_server_claude.simulator import Simulator, directive
from support.mcp_session import (
    FAKE_KEY,
    McpSession,
    ProgressUpdate,
    connect,
    failure_meta,
    text_blocks,
    usage_meta,
)
from support.recorded_streams import message_events, sse_bytes
from support.scripted_upstream import scripted_upstream
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mcp.types import CallToolResult

    from mcp_server_claude.simulator import LoggedRequest

pytestmark = pytest.mark.anyio

PREFILLED, PROMPTED = "claude-haiku-4-5", "claude-sonnet-5-5"
BREAKS = ("drop", "fin", "eof", "error", "malformed", "badutf8", "stall")
TABLE = "| n | n² |\n|---|---|\n" + "".join(f"| {n} | {n * n} |\n" for n in range(60))
CODE = "".join(f"def f{n}(x):\n    if x:\n        return {{{n}: x}}\n    return {{}}\n\n\n" for n in range(20))
WORLD = "Ça va? 😀 שלום עולם, السلام عليكم. 日本語。\n\n\t" * 12 + "👩‍👩‍👧 e\u0301 \n"


@pytest.fixture(scope="module")
async def module_session(api: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[McpSession]:
    data_dir = tmp_path_factory.mktemp("resume") / "data"
    async with connect(
        "memory", "auto", data_dir, base_url=api.url, bytes_timeout_s=0.4, event_timeout_s=0.6, progress_interval_s=0.01
    ) as session:
        yield session


@pytest.fixture
def session(module_session: McpSession, api: Simulator) -> McpSession:
    api.reset()
    return module_session


def body(record: LoggedRequest) -> dict[str, object]:
    return cast("dict[str, object]", record.body)


def expected(api: Simulator, record: LoggedRequest) -> str:
    """The answer of the upstream to a request without the fault."""
    assert isinstance(record.body, dict)
    return api.answer_to(record.body)


def messages(record: LoggedRequest) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", body(record)["messages"])


def lossless(updates: list[ProgressUpdate]) -> str:
    assert all(before.progress < after.progress for before, after in pairwise(updates))
    return "".join(each.message or "" for each in updates)


# --------------------------------------------------------------------- after visible text


@dataclass(frozen=True)
class BrokenRequest:
    """A call that broke once, with the two requests that it took."""

    result: CallToolResult
    updates: list[ProgressUpdate]
    first: LoggedRequest
    second: LoggedRequest


@pytest.fixture(scope="module", params=[PREFILLED, PROMPTED])
async def broken(
    request: pytest.FixtureRequest, module_session: McpSession, api: Simulator
) -> dict[str, BrokenRequest]:
    """One call for each way to break in mid-text, all at once: each of them waits before it continues."""
    api.reset()
    results: dict[str, tuple[CallToolResult, list[ProgressUpdate]]] = {}

    async def ask(fault: str) -> None:
        updates: list[ProgressUpdate] = []
        prompt = f"Tell me of {fault}. {directive(fault=fault, times=1)}"
        results[fault] = (await module_session.ask(prompt, model=request.param, updates=updates), updates)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for fault in BREAKS:
                tasks.start_soon(ask, fault)
    requests = {
        fault: [
            record
            for record in message_requests(api)
            if str(messages(record)[0]["content"]).startswith(f"Tell me of {fault}.")
        ]
        for fault in BREAKS
    }
    return {fault: BrokenRequest(result, updates, *requests[fault]) for fault, (result, updates) in results.items()}


async def test_text_for_a_block_that_was_never_started_is_part_of_a_complete_answer(
    session: McpSession, api: Simulator
) -> None:
    result = await session.ask(f"Tell me. {directive(fault='badindex', times=1)}")
    (record,) = message_requests(api)
    assert text_blocks(result)[0].replace("?", "", 1) == record.text.replace("?", "", 1)
    assert len(text_blocks(result)[0]) == len(record.text) + 1
    assert usage_meta(result)["complete"] is True


def stray_delta(text: str) -> dict[str, object]:
    return {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": text}}


@pytest.mark.parametrize("model", [PREFILLED, PROMPTED])
async def test_a_continuation_with_text_for_a_block_that_was_never_started_is_repeated(
    tmp_path: Path, model: str
) -> None:
    first_half, rest = "The first half of the answer, which is long enough to repeat. ", "The second half."
    anchor = "" if model == PREFILLED else first_half.rstrip()[-ANCHOR_CHARS:]
    start, block, *_ = message_events()
    complete = message_events(anchor + " " + rest)
    async with (
        scripted_upstream(
            sse_bytes(*message_events(first_half)[:3]),
            sse_bytes(start, block, stray_delta("?"), *complete[2:]),
            sse_bytes(*complete),
        ) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session,
    ):
        result = await session.ask("x", model=model)
    assert text_blocks(result)[0] == first_half + rest
    assert (usage_meta(result)["complete"], usage_meta(result)["attempts"]) == (True, 3)


async def test_json_with_text_for_a_block_that_was_never_started_is_requested_again(tmp_path: Path) -> None:
    start, block, *rest = message_events('{"a": "', 'b"}')
    async with (
        scripted_upstream(
            sse_bytes(start, block, rest[0], stray_delta("?"), *rest[1:]), sse_bytes(start, block, *rest)
        ) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session,
    ):
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        result = await session.ask("x", model=PREFILLED, schema=schema)
    assert text_blocks(result)[0] == '{"a": "b"}'
    assert usage_meta(result)["attempts"] == 2


@pytest.mark.parametrize("fault", BREAKS)
async def test_a_stream_broken_after_visible_text_is_continued_and_the_answer_is_exact(
    broken: dict[str, BrokenRequest], api: Simulator, fault: str
) -> None:
    broken_request = broken[fault]
    used = usage_meta(broken_request.result)
    assert (
        text_blocks(broken_request.result)[0] == expected(api, broken_request.first) == lossless(broken_request.updates)
    )
    assert broken_request.first.visible_chars > 0
    assert broken_request.second.is_continuation
    assert (used["complete"], used["resumed"], used["estimated"]) == (True, True, True)
    assert used["request_ids"] == [broken_request.first.request_id, broken_request.second.request_id]
    assert (used["attempts"], used["retries"]) == (2, 1)
    assert used["input_tokens"] == broken_request.first.input_tokens + broken_request.second.input_tokens
    assert len(text_blocks(broken_request.result)) == 2


@pytest.mark.parametrize("model", [PREFILLED, PROMPTED])
@pytest.mark.parametrize("text", [TABLE, CODE, WORLD], ids=["table", "code", "world"])
async def test_tables_code_and_white_space_are_exact_after_a_break_anywhere(
    session: McpSession, api: Simulator, text: str, model: str
) -> None:
    """Several calls at once, each broken at a place of its own, two of them beside white space."""
    last = len(text.rstrip()) - 1
    spaces = [n for n, character in enumerate(text[:last]) if character.isspace() and n > ANCHOR_CHARS]
    cuts = [1, ANCHOR_CHARS, last, spaces[len(spaces) // 2], spaces[-1] + 1]
    answers: dict[int, tuple[str, str]] = {}

    async def ask(cut: int) -> None:
        updates: list[ProgressUpdate] = []
        broken_request = directive(text=text, fault="eof", times=1, at=cut, chars=7)
        result = await session.ask(f"{cut} {broken_request}", model=model, updates=updates)
        answers[cut] = (text_blocks(result)[0], lossless(updates))

    async with anyio.create_task_group() as tasks:
        for cut in set(cuts):
            tasks.start_soon(ask, cut)
    assert answers == dict.fromkeys(set(cuts), (text, text))
    assert len(message_requests(api)) == 2 * len(set(cuts))


async def test_a_continuation_that_does_not_repeat_the_end_is_joined_unchanged(
    session: McpSession, api: Simulator
) -> None:
    updates: list[ProgressUpdate] = []
    result = await session.ask(
        f"Tell me of tea. {directive(fault='eof', times=1, anchor='off')}", model=PROMPTED, updates=updates
    )
    assert text_blocks(result)[0] == expected(api, message_requests(api)[0]) == lossless(updates)


@pytest.mark.parametrize("model", [PREFILLED, PROMPTED])
async def test_an_answer_that_breaks_between_the_halves_of_a_surrogate_pair_is_exact(
    session: McpSession, api: Simulator, model: str
) -> None:
    text = "smile 😀 " * 40
    halves = len(text.encode("utf-16-le")) // 2
    updates: list[ProgressUpdate] = []
    broken_request = directive(text=text, split="surrogates", fault="eof", times=1, at=halves // 2)
    result = await session.ask(broken_request, model=model, updates=updates)
    assert text_blocks(result)[0] == lossless(updates) == text
    assert len(message_requests(api)) == 2


@pytest.mark.parametrize("model", [PREFILLED, PROMPTED])
async def test_a_continuation_that_breaks_is_continued_too(session: McpSession, api: Simulator, model: str) -> None:
    updates: list[ProgressUpdate] = []
    broken_request = directive(text=TABLE, fault="eof", times=3, at=100, chars=9)
    result = await session.ask(broken_request, model=model, updates=updates)
    assert text_blocks(result)[0] == lossless(updates) == TABLE
    assert len(message_requests(api)) == 4
    assert usage_meta(result)["request_ids"] == [request.request_id for request in message_requests(api)]


# --------------------------------------------------------------------- what is sent


async def test_a_model_with_prefill_gets_its_text_and_no_prompt(session: McpSession, api: Simulator) -> None:
    text = "A line of text that ends in white space.  \n\n\tAnd more of it."
    cut = text.index("And")
    await session.ask(directive(text=text, fault="eof", times=1, at=cut), model=PREFILLED, system="Be brief.")
    first, second = message_requests(api)
    assert messages(second) == [*messages(first), {"role": "assistant", "content": text[:cut].rstrip()}]
    unchanged = {"model", "system", "stream"}
    assert {name: body(second)[name] for name in unchanged} == {name: body(first)[name] for name in unchanged}


async def test_other_models_are_prompted_to_begin_with_the_last_characters(session: McpSession, api: Simulator) -> None:
    text = "A line of text that ends in white space.  \n\n\tAnd more of it."
    cut = text.index("And")
    await session.ask(directive(text=text, fault="eof", times=1, at=cut), model=PROMPTED)
    first, second = message_requests(api)
    partial = text[:cut].rstrip()
    assert messages(second) == [
        *messages(first),
        {"role": "assistant", "content": partial},
        {"role": "user", "content": CONTINUE_PROMPT.format(anchor=partial[-ANCHOR_CHARS:])},
    ]


async def test_a_continuation_does_not_exceed_the_requested_length(session: McpSession, api: Simulator) -> None:
    await session.ask(
        f"Tell me. {directive(tokens=900, fault='eof', times=1, at=1400)}", max_tokens=1000, model=PROMPTED
    )
    first, second = message_requests(api)
    assert body(first)["max_tokens"] == 1000
    assert body(second)["max_tokens"] == 1000 - round(1400 / CHARS_PER_TOKEN)


# --------------------------------------------------------------------- before visible text


@pytest.mark.parametrize("model", [PREFILLED, PROMPTED])
async def test_a_stream_broken_before_visible_text_is_repeated_byte_for_byte(
    session: McpSession, api: Simulator, model: str
) -> None:
    broken_request = [directive(fault=fault, times=1, at=at, think=0) for fault in BREAKS for at in ("headers", 0)]
    broken_request += [
        directive(fault="empty", times=1),
        directive(status=500, times=1),
        directive(status=529, times=1),
    ]
    results: dict[str, dict[str, object]] = {}

    async def ask(prompt: str) -> None:
        result = await session.ask(prompt, model=model)
        results[prompt] = usage_meta(result)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for n, each in enumerate(broken_request):
                tasks.start_soon(ask, f"{n} {each}")
    for prompt, used in results.items():
        first, second = (record for record in message_requests(api) if messages(record)[0]["content"] == prompt)
        assert body(first) == body(second)
        assert (used["complete"], used["resumed"], used["attempts"]) == (True, False, 2)
    assert len(results) == len(broken_request)


@pytest.mark.parametrize("fault", ["eof", "drop", "error"])
async def test_a_stream_broken_during_thinking_is_repeated(session: McpSession, api: Simulator, fault: str) -> None:
    result = await session.ask(f"Tell me. {directive(think=50, fault=fault, times=1, at=0)}", model="claude-opus-5-5")
    first, second = message_requests(api)
    assert body(first) == body(second)
    assert first.thinking_chars > 0
    assert text_blocks(result)[0] == expected(api, first)
    assert usage_meta(result)["resumed"] is False


async def test_white_space_alone_is_not_yet_visible_text(session: McpSession, api: Simulator) -> None:
    text = "\n\n  and then the answer"
    updates: list[ProgressUpdate] = []
    result = await session.ask(directive(text=text, fault="eof", times=1, at=3, chars=1), updates=updates)
    first, second = message_requests(api)
    assert body(first) == body(second)
    assert text_blocks(result)[0] == lossless(updates) == text


# --------------------------------------------------------------------- what cannot be continued


async def test_a_stream_broken_after_a_server_tool_is_incomplete_and_not_continued(
    session: McpSession, api: Simulator
) -> None:
    result = await session.ask(f"Look it up. {directive(search='on', fault='eof', times=1)}")
    (request,) = message_requests(api)
    assert request.web_searches == 1
    answer, *_, last = text_blocks(result)
    assert answer.startswith(request.text)
    assert last.startswith("INCOMPLETE: ")
    assert not result.is_error
    assert usage_meta(result)["complete"] is False


async def test_continuations_are_bounded_and_the_text_so_far_is_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An upstream that always adds a word and never ends: no simulator's text is that long."""
    start: dict[str, object] = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [],
    }
    stream = sse_bytes(
        {"type": "message_start", "message": {**start, "stop_reason": None, "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}},
    )
    where = tmp_path_factory.mktemp("bounded") / "data"
    updates: list[ProgressUpdate] = []
    with anyio.fail_after(90):
        async with (
            scripted_upstream(stream) as upstream,
            connect("memory", "auto", where, base_url=upstream.url) as session,
        ):
            result = await session.ask("x", model=PREFILLED, updates=updates)
    posted = [each for each in upstream.requests if each.startswith(b"POST /v1/messages ")]
    assert len(posted) == 1 + MAX_CONTINUATIONS
    answer, _, last = text_blocks(result)
    assert answer == lossless(updates) == "word " * (1 + MAX_CONTINUATIONS)
    assert last.startswith("INCOMPLETE: ")
    assert last.endswith(f"Ask for the rest in thread {usage_meta(result)['thread']}.")
    assert usage_meta(result)["attempts"] == 1 + MAX_CONTINUATIONS


async def test_a_stream_that_always_breaks_before_its_text_is_an_error_with_its_usage(
    api: Simulator, tmp_path: Path
) -> None:
    api.reset()
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url, max_retries=1) as session:
        result = await session.ask(f"Tell me. {directive(fault='eof', at=0)}", model=PROMPTED)
    first, second = message_requests(api)
    used = usage_meta(result)
    assert failure_meta(result)["kind"] == "truncated"
    assert failure_meta(result)["retryable"] is True
    assert used["request_ids"] == [first.request_id, second.request_id]
    assert used["complete"] is False
    assert str(used["call_id"]) in text_blocks(result)[0]


# --------------------------------------------------------------------- paused turns


async def test_a_paused_turn_is_resumed_unchanged_and_its_answer_is_complete(
    session: McpSession, api: Simulator
) -> None:
    updates: list[ProgressUpdate] = []
    result = await session.ask(
        f"Look it up. {directive(stop='pause_turn', think=20)}", model="claude-opus-5-5", updates=updates
    )
    first, second = message_requests(api)
    *before, carried = messages(second)
    assert before == messages(first)
    assert carried["role"] == "assistant"
    async with httpx2.AsyncClient() as other:  # what the API says to the same request, in one piece
        # The same account: thinking is bound to it.
        headers = {"x-api-key": FAKE_KEY, "anthropic-version": first.headers["anthropic-version"]}
        complete = await other.post(f"{api.url}/v1/messages", json={**body(first), "stream": False}, headers=headers)
    assert carried["content"] == complete.json()["content"]
    kinds = [block["type"] for block in cast("list[dict[str, object]]", carried["content"])]
    assert kinds[:3] == ["thinking", "server_tool_use", "web_search_tool_result"]
    assert text_blocks(result)[0] == lossless(updates)
    assert lossless(updates).startswith(first.text + second.text)
    assert (usage_meta(result)["complete"], usage_meta(result)["stop_reason"]) == (True, "end_turn")


async def test_a_turn_that_pauses_repeatedly_is_resumed_up_to_the_limit(session: McpSession, api: Simulator) -> None:
    result = await session.ask(f"Look it up. {directive(stop='pause_turn', times=1000)}")
    assert len(message_requests(api)) == 1 + MAX_PAUSE_TURNS
    assert text_blocks(result)[-1].startswith("INCOMPLETE: ")
    assert usage_meta(result)["stop_reason"] == "pause_turn"
    assert not result.is_error
