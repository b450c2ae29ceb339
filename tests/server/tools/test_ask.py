from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_server_claude import pricing
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server.progress_notifications import MAX_STATUS_LINE_CHARS
from mcp_server_claude.server.tool_dependencies import OPENING_NOTE
from mcp_server_claude.simulator import Pace, Simulator, directive
from support.mcp_session import (
    ALL_TRANSPORTS,
    FAKE_KEY,
    USAGE_META,
    McpSession,
    ProgressUpdate,
    connect,
    failure_meta,
    text_blocks,
    usage_meta,
)
from support.quick_run import examples, slow_beyond
from support.recorded_streams import message_events, sse_bytes, utf16_units
from support.scripted_upstream import scripted_upstream
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.mcp_session import ProtocolMode, Transport

pytestmark = pytest.mark.anyio
FAST = Pace(ttft_s=0, tokens_per_s=0)


@pytest.fixture(scope="module")
async def api() -> AsyncIterator[Simulator]:
    async with Simulator(pace=FAST) as simulator:
        yield simulator


@pytest.fixture(scope="module", params=ALL_TRANSPORTS, ids="-".join)
async def everywhere(
    request: pytest.FixtureRequest, api: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[McpSession]:
    where, mode = cast("tuple[Transport, ProtocolMode]", request.param)
    async with connect(where, mode, tmp_path_factory.mktemp("data") / "data", base_url=api.url) as session:
        yield session


@pytest.fixture
def session(everywhere: McpSession, api: Simulator) -> McpSession:
    """A client over each transport and in each era, at a server that lives as long as this file's tests."""
    api.reset()
    return everywhere


# --------------------------------------------------------------------- an answer


async def test_the_first_block_is_exactly_the_answer_and_the_second_is_for_the_reader(
    session: McpSession, api: Simulator
) -> None:
    result = await session.ask("What is tea?")
    answer, footer = text_blocks(result)
    (request,) = message_requests(api)
    assert isinstance(request.body, dict)
    assert answer == api.answer_to(request.body) == request.text
    assert request.body["messages"] == [{"role": "user", "content": "What is tea?"}]
    assert re.fullmatch(r"\[claude-sonnet-5-5 · \d+ in · \d+ out · \$[\d.]+ · [\d.]+ s( · [\w ]+)*\]", footer)
    assert not result.is_error
    assert result.structured_content is None


async def test_the_usage_is_that_of_the_upstream_with_its_cost(session: McpSession, api: Simulator) -> None:
    result = await session.ask("What is tea? [[sim: think=30]]", model="opus", effort="high", system="Be brief.")
    (request,), used = message_requests(api), usage_meta(result)
    rates = pricing.find_rates("claude-opus-5-5")
    assert rates is not None
    assert used["input_tokens"] == request.input_tokens > 0
    assert used["output_tokens"] == request.output_tokens > 0
    assert used["cache_read_input_tokens"] == request.cache_read_input_tokens
    assert used["thinking_tokens"] == 30
    price = (request.input_tokens * rates.input + request.output_tokens * rates.output) / 1_000_000
    assert used["cost_usd"] == pytest.approx(float(price))
    assert used["model"] == "claude-opus-5-5"
    assert used["request_ids"] == [request.request_id]
    assert (used["stop_reason"], used["complete"], used["estimated"]) == ("end_turn", True, False)
    assert (used["attempts"], used["retries"], used["user"]) == (1, 0, "local")
    assert cast("float", used["ttft_s"]) <= cast("float", used["duration_s"])


async def test_the_request_has_the_given_arguments_and_no_others(session: McpSession, api: Simulator) -> None:
    await session.ask("x", model="claude-opus-5", effort="low", system="Be brief.", max_tokens=77)
    (request,) = message_requests(api)
    body = cast("dict[str, object]", request.body)
    assert {name: body[name] for name in ("model", "max_tokens", "system", "output_config", "stream")} == {
        "model": "claude-opus-5",
        "max_tokens": 77,
        "system": "Be brief.",
        "output_config": {"effort": "low"},
        "stream": True,
    }
    assert body.keys().isdisjoint({"temperature", "top_p", "top_k"})


async def test_by_default_an_answer_may_be_as_long_as_the_model_can_write(session: McpSession, api: Simulator) -> None:
    await session.ask("x", model="claude-sonnet-4-6")
    assert cast("dict[str, object]", message_requests(api)[0].body)["max_tokens"] == 64_000


@pytest.mark.parametrize("prompt", ['{"a":1}', "null", "[1]", '"quoted"', "true", "12", "  spaced\n", "\\ud83d"])
async def test_a_prompt_that_looks_like_json_is_text(session: McpSession, api: Simulator, prompt: str) -> None:
    await session.ask(prompt, system=prompt)
    body = cast("dict[str, object]", message_requests(api)[0].body)
    assert body["messages"] == [{"role": "user", "content": prompt}]
    assert body["system"] == prompt


async def test_nulls_of_optional_arguments_are_ignored(session: McpSession, api: Simulator) -> None:
    result = await session.ask("x", model=None, effort=None, system=None, max_tokens=None)
    assert not result.is_error
    body = cast("dict[str, object]", message_requests(api)[0].body)
    assert body["model"] == "claude-sonnet-5-5"
    assert body.keys().isdisjoint({"system", "output_config"})


async def test_twelve_concurrent_calls_each_get_their_answer(session: McpSession) -> None:
    answers: dict[int, str] = {}
    updates: dict[int, list[ProgressUpdate]] = {n: [] for n in range(12)}

    async def ask(n: int) -> None:
        answers[n] = text_blocks(await session.ask(directive(text=f"answer {n} " * 200, chars=20), updates=updates[n]))[
            0
        ]

    async with anyio.create_task_group() as tasks:
        for n in range(12):
            tasks.start_soon(ask, n)
    assert answers == {n: f"answer {n} " * 200 for n in range(12)}
    assert {n: "".join(each.message or "" for each in updates[n]) for n in updates} == answers


# --------------------------------------------------------------------- progress


def lossless(updates: list[ProgressUpdate]) -> str:
    assert all(before.progress < after.progress for before, after in pairwise(updates))
    return "".join(each.message or "" for each in updates)


async def test_in_style_text_the_messages_joined_are_the_answer(session: McpSession) -> None:
    updates: list[ProgressUpdate] = []
    result = await session.ask("What is tea? [[sim: tokens=3000]]", updates=updates)
    assert lossless(updates) == text_blocks(result)[0]
    assert updates[0].message is None


@settings(deadline=None, max_examples=examples(8), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters() | st.sampled_from("😀\n\u05d0\u2028"), min_size=1).map("x".__add__),
    chars=st.integers(1, 3),
)
async def test_any_text_arrives_even_with_separated_surrogate_pairs(session: McpSession, text: str, chars: int) -> None:
    updates: list[ProgressUpdate] = []
    result = await session.ask(directive(text=text, chars=chars, split="surrogates"), updates=updates)
    assert text_blocks(result)[0] == lossless(updates) == replace_lone_surrogates(text)


@pytest.mark.parametrize(("where", "mode"), slow_beyond(2, ALL_TRANSPORTS[::-2] + ALL_TRANSPORTS[::2]))
async def test_two_megabytes_arrive(where: Transport, mode: ProtocolMode, tmp_path: Path) -> None:
    updates: list[ProgressUpdate] = []
    text = ("multi\nline 👩‍👩‍👧 " + "שלום " * 1000) * 400
    halves = utf16_units(text)
    stream = sse_bytes(*message_events(*(halves[n : n + 4099] for n in range(0, len(halves), 4099))), escaped=True)
    async with (
        scripted_upstream(stream) as upstream,
        connect(where, mode, tmp_path / "data", base_url=upstream.url) as session,
    ):
        result = await session.ask("x", updates=updates)
    assert len(text) > 2_000_000
    assert text_blocks(result)[0] == lossless(updates) == text
    assert max(len(each.message or "") for each in updates) <= 64 * 1024


async def test_a_call_can_request_one_status_line(session: McpSession) -> None:
    updates: list[ProgressUpdate] = []
    await session.ask(directive(text="first\nsecond\x1b[31m\n" * 300), updates=updates, style="status", model="opus")
    assert lossless(updates).startswith("starting")
    for each in updates:
        assert each.message is not None
        assert len(each.message) <= MAX_STATUS_LINE_CHARS
        assert each.message.isprintable()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_claude_code_gets_status_lines_by_default(mode: ProtocolMode, api: Simulator, tmp_path: Path) -> None:
    updates: list[ProgressUpdate] = []
    async with connect("memory", mode, tmp_path / "d", client_name="claude-code", base_url=api.url) as session:
        result = await session.ask("What is tea?", updates=updates)
    lines = [each.message for each in updates if each.message != OPENING_NOTE]
    assert str(lines[0]).startswith("loading the client of the API · ")
    assert text_blocks(result)[0] not in lossless(updates)


# --------------------------------------------------------------------- how it stopped


@pytest.mark.parametrize("stop", ["end_turn", "stop_sequence"])
async def test_an_answer_with_a_natural_end_is_complete(session: McpSession, stop: str) -> None:
    result = await session.ask(f"Tell me. [[sim: stop={stop}]]")
    assert usage_meta(result)["complete"] is True
    assert usage_meta(result)["stop_reason"] == stop
    assert len(text_blocks(result)) == 2


@pytest.mark.parametrize("stop", ["max_tokens", "model_context_window_exceeded"])
async def test_an_answer_that_was_cut_ends_with_the_reason_and_how_to_continue(
    session: McpSession, api: Simulator, stop: str
) -> None:
    result = await session.ask(f"Tell me. [[sim: stop={stop}]]")
    answer, footer, last = text_blocks(result)
    assert answer == message_requests(api)[0].text
    assert footer.startswith("[claude-")
    assert last.startswith("INCOMPLETE: ")
    assert f"in thread {usage_meta(result)['thread']}" in last or stop != "max_tokens"
    assert ". Ask " in last
    assert not result.is_error
    assert usage_meta(result)["complete"] is False
    assert usage_meta(result)["stop_reason"] == stop


async def test_a_paused_turn_is_resumed_or_reported_as_incomplete(session: McpSession) -> None:
    result = await session.ask("Tell me. [[sim: stop=pause_turn]]")
    assert usage_meta(result)["complete"] is not text_blocks(result)[-1].startswith("INCOMPLETE: ")


async def test_a_refusal_is_an_error_with_its_reason_and_its_usage(session: McpSession, api: Simulator) -> None:
    result = await session.ask("Tell me. [[sim: stop=refusal]]")
    assert failure_meta(result)["class"] == "request_error"
    assert failure_meta(result)["kind"] == "refusal"
    (text,) = text_blocks(result)
    assert "The simulator was asked to refuse" in text
    assert message_requests(api)[0].text not in text
    assert usage_meta(result)["stop_reason"] == "refusal"
    assert usage_meta(result)["input_tokens"] == message_requests(api)[0].input_tokens


async def test_a_call_of_a_tool_that_was_not_offered_is_an_error(session: McpSession) -> None:
    result = await session.ask("Tell me. [[sim: stop=tool_use]]")
    assert failure_meta(result)["kind"] == "tool_use"
    assert "tool" in text_blocks(result)[0]
    assert usage_meta(result)["complete"] is False


# --------------------------------------------------------------------- what is refused before it is sent


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"prompt": ""}, "prompt must not be empty."),
        ({"prompt": " \n\t"}, "The prompt is empty. Say what Claude should do."),
        ({}, "prompt is required."),
        ({"prompt": None}, "prompt must be a valid string."),
        ({"prompt": 7}, "prompt must be a valid string."),
        ({"prompt": "x", "max_token": 9}, "There is no parameter named 'max_token'. Did you mean max_tokens?"),
        ({"prompt": "x", "sytem": "s"}, "There is no parameter named 'sytem'. Did you mean system?"),
        ({"prompt": "x", "model": "opsu"}, "There is no model named 'opsu'; nearest: opus."),
        ({"prompt": "x", "model": "claude-opus-4-5", "effort": "max"}, " supports effort low, medium or high."),
        ({"prompt": "x", "model": "claude-haiku-4-5", "effort": "low"}, " does not support effort."),
        ({"prompt": "x", "effort": "hard"}, "effort must be one of low, medium, high, xhigh or max."),
        ({"prompt": "x", "max_tokens": 128_001}, "claude-sonnet-5-5 writes at most 128,000 tokens;"),
        ({"prompt": "x", "max_tokens": -1}, "max_tokens must be greater than or equal to 0."),
        ({"prompt": "x", "max_tokens": "many"}, "max_tokens must be a valid integer"),
        ({"prompt": "x", "max_tokens": 1.5}, "max_tokens must be a valid integer"),
    ],
)
async def test_invalid_input_is_rejected_with_one_clear_sentence_and_without_a_request(
    session: McpSession, api: Simulator, arguments: dict[str, object], expected: str
) -> None:
    result = await session.client.call_tool("claude_ask", arguments)
    (text,) = text_blocks(result)
    assert expected in text
    assert text.endswith((".", "?"))
    assert failure_meta(result)["class"] == "request_error"
    assert failure_meta(result)["retryable"] is False
    assert not message_requests(api)


async def test_an_invalid_value_is_named_but_not_repeated(session: McpSession, api: Simulator) -> None:
    secret = "hunter2-hunter2"
    for arguments in ({"max_tokens": secret}, {"effort": secret}, {"prompt": [secret]}, {"system": {"a": secret}}):
        (text,) = text_blocks(await session.client.call_tool("claude_ask", {"prompt": "x"} | arguments))
        assert secret not in text
        assert "http" not in text
        assert "input_value" not in text
    assert not message_requests(api)


# --------------------------------------------------------------------- what goes wrong upstream


@pytest.mark.parametrize(
    ("status", "family", "kind"),
    [
        (400, "request_error", "invalid_request"),
        (401, "configuration_error", "authentication"),
        (402, "configuration_error", "billing"),
        (403, "configuration_error", "permission"),
        (404, "request_error", "not_found"),
        (413, "request_error", "too_large"),
    ],
)
async def test_an_error_of_the_api_has_its_class_and_request_id(
    session: McpSession, api: Simulator, status: int, family: str, kind: str
) -> None:
    result = await session.ask(directive(status=status))
    (request,) = message_requests(api)
    assert failure_meta(result) == {
        "class": family,
        "kind": kind,
        "retryable": False,
        "retry_after_s": None,
        "request_id": request.request_id,
    }
    (text,) = text_blocks(result)
    assert re.search(r"\.( \[\w+\])?$", text)
    assert FAKE_KEY not in text
    assert usage_meta(result)["attempts"] == 1


# --------------------------------------------------------------------- surrogates


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_lone_surrogate_in_a_question_ends_nothing(mode: ProtocolMode, api: Simulator, tmp_path: Path) -> None:
    """In this process: no Python client can send one over stdio. Those that can are in `test_stdio`."""
    api.reset()
    async with connect("memory", mode, tmp_path / "data", base_url=api.url) as session:
        await session.ask("half \ud83d a pair", system="\ude00")
        body = cast("dict[str, object]", message_requests(api)[0].body)
        assert body["messages"] == [{"role": "user", "content": "half \ufffd a pair"}]
        assert body["system"] == "\ufffd"
        strange_ones: list[dict[str, Any]] = [
            {"model": "\ud83d"},
            {"effort": "\ud83d"},
            {"\ud83d": ""},
            {"max_tokens": "\ud83d"},
        ]
        for strange in strange_ones:
            result = await session.ask("x", **strange)
            assert result.is_error
            assert text_blocks(result)[0] == replace_lone_surrogates(text_blocks(result)[0])


async def test_a_lone_surrogate_in_an_answer_ends_nothing(session: McpSession) -> None:
    assert text_blocks(await session.ask(directive(text="\ude00 and \ud83d")))[0] == "\ufffd and \ufffd"


@pytest.mark.parametrize(("where", "mode"), [("memory", "auto"), ("stdio", "legacy")])
async def test_a_lone_surrogate_in_an_error_of_the_api_ends_nothing(
    where: Transport, mode: ProtocolMode, tmp_path: Path
) -> None:
    body = rb'{"type":"error","error":{"type":"invalid_request_error","message":"bad \ud83d, sk-ant-api03-abc_d"}}'
    async with (
        scripted_upstream(body, status=400, content_type="application/json") as upstream,
        connect(where, mode, tmp_path / "data", base_url=upstream.url) as session,
    ):
        result = await session.ask("x")
        assert "bad \ufffd, sk-ant-…" in text_blocks(result)[0]
        assert failure_meta(result)["request_id"] == "req_parrot"
        assert "claude_ask" in {tool.name for tool in (await session.client.list_tools()).tools}


async def test_an_unknown_stop_reason_is_reported_as_incomplete(tmp_path: Path) -> None:
    message = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "so"}],
    }
    stream = sse_bytes(
        {"type": "message_start", "message": {**message, "stop_reason": "bored", "usage": {"input_tokens": 1}}}
    )
    async with (
        scripted_upstream(stream) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session,
    ):
        answer, _, last = text_blocks(await session.ask("x"))
    assert answer == "so"
    assert last.startswith("INCOMPLETE: ")
    assert "bored" in last


# --------------------------------------------------------------------- cancelling


async def test_a_cancelled_call_closes_the_upstream_and_leaves_its_entry_in_the_ledger(
    session: McpSession, api: Simulator
) -> None:
    updates: list[ProgressUpdate] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: session.ask("Tell me. [[sim: tokens=400 fault=stall at=90]]", updates=updates))
        with anyio.fail_after(30):
            while not lossless(updates):
                await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    with anyio.fail_after(30):
        await api.wait_until_idle()
    (request,) = message_requests(api)
    assert request.end == "disconnected"
    await session.ask("The ledger is written in order, so after this answer that line is closed.")
    (line,) = [line for line in session.ledger_rows() if line["request_id"] == request.request_id]
    assert (line["state"], line["end"], line["estimated"]) == ("closed", "cancelled", 1)
    assert line["input_tokens"] == request.input_tokens
    assert cast("int", line["output_tokens"]) >= 90 // 4
    assert cast("int", line["cost_micros"]) > 0


# --------------------------------------------------------------------- keys


@pytest.mark.parametrize(("where", "mode"), [("memory", "legacy"), ("stdio", "auto")])
@pytest.mark.parametrize(
    ("key", "expected", "kind"),
    [
        ("", "There is no API key.", "no_key"),
        ("${ANTHROPIC_API_KEY}", "There is no API key", "no_key"),
        (
            "sk-ant-secret-one\nsk-ant-secret-two",
            "contains a line break, a space or a control character",
            "malformed_key",
        ),
    ],
)
async def test_an_unusable_key_is_reported_in_a_sentence_without_the_key(
    where: Transport, mode: ProtocolMode, key: str, expected: str, kind: str, api: Simulator, tmp_path: Path
) -> None:
    api.reset()
    async with connect(where, mode, tmp_path / "data", base_url=api.url, api_key=key) as session:
        results = [await session.ask("x"), await session.ask("x")]
        text = str(results) + await session.info(about="config")
    for result in results:
        assert expected in text_blocks(result)[0]
        assert failure_meta(result)["kind"] == kind
        assert failure_meta(result)["class"] == "configuration_error"
    assert "secret" not in text + session.stderr.read_text()
    assert not api.requests


async def test_the_footer_can_be_switched_off(api: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url, footer=False) as session:
        result = await session.ask("What is tea?")
    assert len(text_blocks(result)) == 1
    assert USAGE_META in (result.meta or {})
