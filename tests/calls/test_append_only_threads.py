"""Threads are append-only: thinking is sent again only after an unchanged beginning."""

from __future__ import annotations

import asyncio
import json
import random
import re
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_server_claude.simulator import Pace, Simulator, directive
from mcp_server_claude.simulator.model_catalog import TODAY, listed_models
from support.mcp_session import connect, failure_meta, text_blocks, usage_meta
from support.quick_run import examples, slow_beyond
from support.recorded_streams import sse_bytes
from support.scripted_upstream import scripted_upstream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mcp.types import CallToolResult

    from support.mcp_session import McpSession

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_database")]

Body = dict[str, Any]
SERVED_MODELS = tuple(model.id for model in listed_models("full") if model.lifecycle_on(TODAY) != "retired")
BLOCK_PATH = re.compile(r"messages\.[\d.a-z_]+: ?")
THINK = directive(think=30)


def bodies(api: Simulator) -> list[Body]:
    return [cast("Body", record.body) for record in api.requests if record.path == "/v1/messages"]


def without_cache_control(value: object) -> object:
    match value:
        case dict():
            fields = cast("dict[str, object]", value)
            return {name: without_cache_control(each) for name, each in fields.items() if name != "cache_control"}
        case list():
            return [without_cache_control(each) for each in cast("list[object]", value)]
        case _:
            return value


def prefix(body: Body, messages: list[object]) -> str:
    parts = [body.get("system"), body.get("tools"), messages]
    return json.dumps(without_cache_control(parts), sort_keys=True)


def check_bound_thinking(api: Simulator) -> int:
    """Check that all thinking that was sent back follows what its own request had; returns how many blocks were sent.

    This compares recorded requests as text, and so shares no code with what it checks.
    """
    prompts: set[str] = set()
    count = 0
    for body in bodies(api):
        messages = cast("list[Body]", body["messages"])
        for index, message in enumerate(messages):
            blocks = cast("list[Body]", message["content"]) if isinstance(message["content"], list) else []
            thinking = [block for block in blocks if block["type"] in {"thinking", "redacted_thinking"}]
            if message["role"] == "assistant" and thinking:
                count += len(thinking)
                assert prefix(body, cast("list[object]", messages[:index])) in prompts
        prompts.add(prefix(body, cast("list[object]", messages)))
    return count


def thread_of(result: CallToolResult) -> str:
    assert not result.is_error, text_blocks(result)
    return cast("str", usage_meta(result)["thread"])


async def test_thinking_is_sent_back_over_many_turns(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = thread_of(await session.ask(f"One. {THINK}", model="sonnet", system="Be kind."))
        for _ in range(3):
            await session.ask(f"More. {THINK}", thread=thread)
    assert check_bound_thinking(upstream) == 1 + 2 + 3


async def test_new_rules_are_a_system_message_where_the_model_accepts_one(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = thread_of(await session.ask(f"One. {THINK}", model="sonnet", system="Be kind."))
        await session.ask(f"Two. {THINK}", thread=thread, system="Be brief.")
        await session.ask("Three.", thread=thread, system="Be brief.")
        await session.ask("Four.", thread=thread)
    *_, second, third, fourth = bodies(upstream)
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user", "system"]
    assert second["messages"][-1]["content"][0]["text"].endswith("Be brief.")
    for body in (third, fourth):
        assert body["system"] == "Be kind."
        assert [message["role"] for message in body["messages"]].count("system") == 1
    assert check_bound_thinking(upstream) == 1 + 2 + 3


async def test_new_rules_replace_the_system_prompt_where_the_model_accepts_no_system_message(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = thread_of(await session.ask(f"One. {THINK}", model="claude-sonnet-5", system="Be kind."))
        await session.ask(f"Two. {THINK}", thread=thread, system="Be brief.")
        await session.ask("Three.", thread=thread)
    *_, second, third = bodies(upstream)
    assert (second["system"], third["system"]) == ("Be brief.", "Be brief.")
    assert check_bound_thinking(upstream) == 1


async def test_tools_stay_defined_and_are_switched_off_for_a_question_without_tools(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = thread_of(await session.ask(f"One. {THINK}", model="sonnet", tools=["web", "read"]))
        await session.ask("Two.", thread=thread)
        await session.ask("Three.", thread=thread, tools=["web"])
    first, second, third = bodies(upstream)
    assert first["tools"] == second["tools"] == third["tools"]
    assert "tool_choice" not in first
    assert second["tool_choice"] == {"type": "none"}
    assert "tool_choice" not in third
    assert check_bound_thinking(upstream) >= 2


async def test_added_tools_leave_out_older_thinking_and_stay_defined(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = thread_of(await session.ask(f"One. {THINK}", model="sonnet"))
        await session.ask(f"Two. {THINK}", thread=thread, tools=["web"])
        await session.ask("Three.", thread=thread)
    _, second, third = bodies(upstream)
    assert second["tools"] == third["tools"]
    assert check_bound_thinking(upstream) == 1


async def test_tools_are_added_by_a_message_where_the_api_takes_it_and_all_thinking_stays(
    upstream: Simulator, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"base_url": upstream.url, "thinking_count": "on"}
    search = f"Two. {directive(think=30, search='on')}"
    async with connect("memory", "auto", tmp_path / "data", **fields) as session:
        thread = thread_of(await session.ask(f"One. {THINK}", model="sonnet"))
        searched = await session.ask(search, thread=thread, tools=["web"], system="Be brief.")
        await session.ask(f"Three. {THINK}", thread=thread)
    async with connect("memory", "auto", tmp_path / "data", **fields) as session:
        ran = await session.ask(f"Four. {directive(think=30, code='on')}", thread=thread, tools=["code"])
        await session.ask("Five.", thread=thread, tools=["web"])
    first, second, third, fourth, fifth = bodies(upstream)
    assert not any("tools" in body for body in (first, second, third, fourth, fifth))
    kinds = [block["type"] for block in second["messages"][-1]["content"]]
    assert kinds == ["tool_addition", "tool_addition", "text"]
    assert usage_meta(searched)["web_searches"] == 1
    assert third["tool_choice"] == {"type": "none"}
    added = [block["tool"]["definition"]["name"] for block in fourth["messages"][-1]["content"]]
    assert added == ["web_search", "web_fetch", "code_execution"]  # beside code, the web is called directly
    assert "container" in fifth
    assert not ran.is_error
    assert check_bound_thinking(upstream) == 1 + 2 + 3 + 4
    assert all(record.status == 200 for record in upstream.requests)


async def test_a_thread_with_added_tools_goes_on_with_a_model_that_takes_them_at_the_beginning_alone(
    upstream: Simulator, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"base_url": upstream.url, "thinking_count": "on"}
    async with connect("memory", "auto", tmp_path / "data", **fields) as session:
        thread = thread_of(await session.ask(f"One. {THINK}", model="claude-sonnet-5-5"))
        await session.ask(f"Two. {THINK}", thread=thread, tools=["web"])
        await session.ask("Three.", thread=thread, tools=["web"], model="claude-sonnet-4-6")
        await session.ask("Four.", thread=thread, tools=["web"], model="claude-sonnet-5-5")
    _, _, third, fourth = bodies(upstream)
    assert [tool["name"] for tool in third["tools"]] == ["web_search", "web_fetch"]
    assert "system" not in [message["role"] for message in third["messages"]]
    assert "tools" not in fourth
    assert check_bound_thinking(upstream) == 1 + 0 + 2


async def test_a_schema_in_a_thread_with_added_tools_leaves_their_citations_out(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, thinking_count="on") as session:
        thread = thread_of(await session.ask(f"One. {THINK}", model="sonnet"))
        await session.ask(f"Two. {THINK}", thread=thread, tools=["web"])
        formed = await session.ask("Three.", thread=thread, tools=["web"], schema=SCHEMA)
        assert not formed.is_error
        await session.ask("Four.", thread=thread, tools=["web"])
    assert "citations" not in json.dumps(bodies(upstream)[2]["messages"][3])
    check_bound_thinking(upstream)


async def test_where_the_api_refuses_added_tools_all_tools_stand_at_the_beginning_from_then_on(tmp_path: Path) -> None:
    refused = http_400(
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "messages.3.content.0: Input tag 'tool_addition' found using 'type' does not match any of "
                "the expected tags",
            },
        }
    )
    answers = [thinking_answer("s1"), refused, *(thinking_answer(f"s{number}") for number in (2, 3, 4))]
    fields: dict[str, Any] = {"models_wait_s": 0, "thinking_count": "on"}
    async with scripted_upstream(*answers) as api:
        async with connect("memory", "auto", tmp_path / "data", base_url=api.url, **fields) as session:
            thread = thread_of(await session.ask("One.", model="claude-sonnet-5-5"))
            assert not (await session.ask("Two.", thread=thread, tools=["web"])).is_error
        async with connect("memory", "auto", tmp_path / "data", base_url=api.url, **fields) as session:
            assert not (await session.ask("Three.", thread=thread, tools=["web", "code"])).is_error
            assert not (await session.ask("Four.", thread=thread)).is_error
        posts = [request for request in api.requests if request.startswith(b"POST /v1/messages")]
    assert [b"tool_addition" in post for post in posts] == [False, True, False, False, False]
    assert [b"inline-tools-2026-09-15" in post for post in posts] == [False, True, False, False, False]
    assert [b'"tools"' in post for post in posts] == [False, False, True, True, True]
    assert [[each for each in (b"s1", b"s2", b"s3") if b'"' + each + b'"' in post] for post in posts[2:]] == [
        [],
        [],
        [b"s3"],
    ]


async def test_a_url_with_other_content_costs_one_request_and_the_thread_goes_on_without_thinking(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = thread_of(await session.ask(f"One. {THINK}", model="sonnet", files=[URLS[0]]))
        await session.ask(f"Two. {THINK}", thread=thread)
        for _ in range(2):
            upstream.change_url(URLS[0])
            assert not (await session.ask(f"More. {THINK}", thread=thread)).is_error
        statuses = [record.status for record in upstream.requests if record.path == "/v1/messages"]
    assert statuses == [200, 200, 400, 200, 200]


async def test_a_call_that_failed_changes_nothing_of_its_thread(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, max_retries=0) as session:
        thread = thread_of(await session.ask(f"One. {THINK}", model="sonnet", system="Be kind."))
        refused = f"Two. {directive(fault='status', status=400)}"
        assert (await session.ask(refused, thread=thread, system="Be brief.", tools=["web"])).is_error
        await session.ask("Three.", thread=thread)
    first, _, third = bodies(upstream)
    assert third["system"] == first["system"]
    assert "tools" not in third
    assert [message["role"] for message in third["messages"]] == ["user", "assistant", "user"]
    assert check_bound_thinking(upstream) == 1


async def test_a_schema_works_in_a_thread_that_used_tools(upstream: Simulator, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        thread = thread_of(await session.ask(f"One. {directive(search='on')}", model="sonnet", tools=["web"]))
        result = await session.ask("As JSON.", thread=thread, schema=schema)
        assert not result.is_error
        await session.ask("Three.", thread=thread)
    first, second, third = bodies(upstream)
    assert first["tools"] == third["tools"]
    assert second["tool_choice"] == {"type": "none"}
    assert "citations" not in json.dumps(second["tools"])
    assert second["output_config"]["format"]["type"] == "json_schema"
    check_bound_thinking(upstream)


async def test_another_key_leaves_out_thinking_that_its_account_may_reject(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, api_key="sk-ant-one") as session:
        thread = thread_of(await session.ask(f"One. {THINK}", model="sonnet"))
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, api_key="sk-ant-two") as session:
        await session.ask("Two.", thread=thread)
    assert check_bound_thinking(upstream) == 0
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, api_key="sk-ant-one") as session:
        await session.ask("Three.", thread=thread)
    assert check_bound_thinking(upstream) == 1


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FALLBACK = "claude-sonnet-4-6"
URLS = ("https://example.com/a.png", "https://example.com/b.pdf")
KEYS = ("sk-ant-one", "sk-ant-two")
CHANGES = (
    "system", "tools added", "tools dropped", "tools switched", "files", "URL file", "content behind a URL", "schema",
    "model", "key", "cut", "fallback", "restart", "nothing",
)  # fmt: skip
PLANNED_REQUESTS = {"cut": 2, "fallback": 6}
"""Requests of a turn that its directive alone makes necessary, at most; one for any other turn. Both models of a
fallback are overloaded at first."""


@pytest.mark.slow
@settings(max_examples=examples(24), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10_000))
def test_no_turn_fails_because_of_an_earlier_one(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    dice = random.Random(seed)
    changes = [dice.choice(CHANGES) for _ in range(12)]
    asyncio.run(_walk(dice, changes, tmp_path_factory.mktemp("walk"), SERVED_MODELS))


@pytest.mark.parametrize("model", slow_beyond(5, SERVED_MODELS))
async def test_a_thread_continues_whatever_changes_between_its_turns(model: str, tmp_path: Path) -> None:
    dice = random.Random(model)
    changes = dice.sample(CHANGES, len(CHANGES))
    await _walk(dice, changes, tmp_path, (model, "claude-sonnet-5-5"), first_model=model)


async def _walk(
    dice: random.Random, changes: Sequence[str], directory: Path, models: tuple[str, ...], *, first_model: str = ""
) -> None:
    """A thread with a turn for each change, against an API that rejects what is broken.

    Two servers with a key each are open at once, on one store. A restart closes both.
    """
    (directory / "a.txt").write_text("Tea is a drink.")
    (directory / "b.py").write_text("print('tea')")
    fields: dict[str, Any] = {
        "roots": [directory],
        "fallback_model": FALLBACK,
        "max_retries": 4,
        "retry_for_s": 30,
        "thinking_count": dice.choice(["on", "auto"]),
    }
    thread, reasons, key = "", list[str](), 0
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api, AsyncExitStack() as stack:
        sessions = await _open_servers(stack, directory, api.url, fields)
        for change in ("nothing", *changes):
            if change == "restart":
                await stack.aclose()
                sessions = await _open_servers(stack, directory, api.url, fields)
            elif change == "key":
                key = 1 - key
            elif change == "content behind a URL":
                for url in URLS:
                    api.change_url(url)
            arguments = _turn(change, dice, models, directory)
            if thread:
                arguments["thread"] = thread
            elif first_model:
                arguments["model"] = first_model
            before = len(api.requests)
            result = await sessions[key].ask(**arguments)
            sent = [record for record in api.requests[before:] if record.path == "/v1/messages"]
            if result.is_error and _lacks(change, text_blocks(result)[0]):
                continue
            assert not result.is_error, (change, arguments, text_blocks(result))
            rejected = [record.error_message or "" for record in sent if record.status == 400]
            assert len(sent) <= PLANNED_REQUESTS.get(change, 1) + len(rejected), [(r.status, r.end) for r in sent]
            assert len(rejected) <= 1, rejected
            reasons += [BLOCK_PATH.sub("", message) for message in rejected]
            thread = thread_of(result)
        assert len(reasons) == len(set(reasons)), reasons
        check_bound_thinking(api)


async def _open_servers(stack: AsyncExitStack, directory: Path, url: str, fields: dict[str, Any]) -> list[McpSession]:
    return [
        await stack.enter_async_context(
            connect("memory", "auto", directory / "data", base_url=url, api_key=key, **fields)
        )
        for key in KEYS
    ]


def _turn(change: str, dice: random.Random, models: tuple[str, ...], directory: Path) -> dict[str, Any]:
    """The arguments of a turn with one change."""
    arguments: dict[str, Any] = {"prompt": f"Go on. {THINK}"}
    match change:
        case "system":
            arguments["system"] = dice.choice(["Be kind.", "Be brief.", "rules " * 400])
        case "tools added" | "tools switched":
            arguments["tools"] = dice.sample(["web", "code", "read"], 1 if change == "tools switched" else 2)
            if dice.random() < 0.5:
                arguments["prompt"] = f"Search https://example.com/tea and run it. {THINK}"
        case "files":
            names = dice.choice([["a.txt"], ["b.py"], ["a.txt", "b.py"]])
            arguments["files"] = [str(directory / name) for name in names]
        case "URL file":
            arguments["files"] = [dice.choice(URLS)]
        case "schema":
            arguments["schema"] = SCHEMA
        case "model":
            arguments["model"] = dice.choice(models)
        case "cut":
            arguments["prompt"] = f"Go on {dice.random()}. {directive(tokens=300, fault='eof', times=1, at=500)}"
        case "fallback":
            fault = directive(think=10, status=529, times=3, retry_after_ms=1)
            arguments["prompt"] = f"Go on {dice.random()}. {fault}"
        case _:
            pass
    return arguments


def _lacks(change: str, message: str) -> bool:
    """True for a turn that its model cannot take in any thread."""
    return change in {"tools added", "tools switched", "schema", "URL file", "files"} and (
        "does not" in message or "cannot" in message or "takes no" in message
    )


REFUSAL = (
    "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a different conversation. "
    'Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to "drop_block". That setting requires '
    "the `thinking-binding-controls-2026-08-01` value in the `anthropic-beta` header."
)


def refusal() -> bytes:
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": REFUSAL}}
    body = json.dumps(error).encode()
    head = f"HTTP/1.1 400 X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def thinking_answer(signature: str, *transformations: Body) -> bytes:
    usage = {"input_tokens": 10, "output_tokens": 1}
    start: Body = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "content": []}
    if transformations:
        start["input_transformations"] = list(transformations)
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    return sse_bytes(
        {"type": "message_start", "message": {**start, "stop_reason": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": thinking},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": signature}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Yes."}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )


async def test_thinking_that_the_api_rejects_is_left_out_at_once_and_permanently(tmp_path: Path) -> None:
    answers = [thinking_answer("s1"), refusal(), *(thinking_answer(f"s{number}") for number in (2, 3, 4))]
    async with (
        scripted_upstream(*answers) as api,
        connect("memory", "auto", tmp_path / "data", base_url=api.url, models_wait_s=0) as session,
    ):
        first = await session.ask("One.", model="claude-sonnet-5-5")
        second = await session.ask("Two.", thread=thread_of(first))
        third = await session.ask("Three.", thread=thread_of(first))
        posts = [request for request in api.requests if request.startswith(b"POST /v1/messages")]
        signatures = [[each for each in (b"s1", b"s2") if b'"' + each + b'"' in post] for post in posts]
    assert signatures == [[], [b"s1"], [], [b"s2"]]
    assert "left out" in text_blocks(second)[1]
    assert "left out" not in text_blocks(third)[1]
    assert usage_meta(second)["retries"] == 0


def question_kinds(post: bytes) -> list[str]:
    body = cast("Body", json.loads(post.partition(b"\r\n\r\n")[2]))
    content = body["messages"][0]["content"]
    return [str(block["type"]) for block in cast("list[Body]", content)] if isinstance(content, list) else ["text"]


async def test_the_api_drops_thinking_of_another_conversation_where_it_is_known_to_do_so(
    tmp_path: Path,
) -> None:
    dropped = {"type": "thinking_dropped", "path": "messages.1.content.0", "reason": "prefix_binding_mismatch"}
    answers = [thinking_answer("s1"), refusal(), thinking_answer("s2", dropped), thinking_answer("s3")]
    async with (
        scripted_upstream(*answers) as api,
        connect("memory", "auto", tmp_path / "data", base_url=api.url, models_wait_s=0, thinking_count="on") as session,
    ):
        first = await session.ask("One.", model="claude-sonnet-5-5")
        second = await session.ask("Two.", thread=thread_of(first))
        await session.ask("Three.", thread=thread_of(first))
        posts = [request for request in api.requests if request.startswith(b"POST /v1/messages")]
    binding = b'"block_binding":{"prefix_mismatch_behavior":"drop_block"}'
    assert [binding in post.replace(b" ", b"") for post in posts] == [False, False, True, True]
    assert [b"thinking-binding-controls-2026-08-01" in post for post in posts] == [False, False, True, True]
    assert [b'"s1"' in post for post in posts] == [False, True, True, True]
    assert b'"s2"' in posts[-1]
    assert "the API dropped 1 thinking block of earlier answers" in text_blocks(second)[1]


async def test_an_altered_signature_is_left_out_although_the_api_drops_blocks(tmp_path: Path) -> None:
    altered = http_400({"type": "error", "error": {"type": "invalid_request_error", "message": REFUSAL[:63]}})
    answers = [thinking_answer("s1"), altered, thinking_answer("s2")]
    async with (
        scripted_upstream(*answers) as api,
        connect("memory", "auto", tmp_path / "data", base_url=api.url, models_wait_s=0, thinking_count="on") as session,
    ):
        first = await session.ask("One.", model="claude-sonnet-5-5")
        await session.ask("Two.", thread=thread_of(first))
        posts = [request for request in api.requests if request.startswith(b"POST /v1/messages")]
    assert [b'"s1"' in post for post in posts] == [False, True, False]


UNAVAILABLE: Body = {
    "type": "error",
    "error": {
        "type": "invalid_request_error",
        "message": "messages.0.content.0: Unable to download the file. Please verify the URL and try again.",
    },
}


def http_400(payload: Body) -> bytes:
    body = json.dumps(payload).encode()
    return b"HTTP/1.1 400 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def test_a_thread_continues_after_the_url_of_a_file_has_expired(tmp_path: Path) -> None:
    answers = [thinking_answer("s1"), http_400(UNAVAILABLE), *(thinking_answer(f"s{number}") for number in (2, 3))]
    url = "https://example.com/a.pdf"
    async with (
        scripted_upstream(*answers) as api,
        connect("memory", "auto", tmp_path / "data", base_url=api.url, models_wait_s=0) as session,
    ):
        first = await session.ask("One.", model="claude-sonnet-5-5", files=[url])
        second = await session.ask("Two.", thread=thread_of(first))
        third = await session.ask("Three.", thread=thread_of(first))
        posts = [request for request in api.requests if request.startswith(b"POST /v1/messages")]
    assert [question_kinds(post) for post in posts] == [
        ["document", "text"],
        ["document", "text"],
        ["text", "text"],
        ["text", "text"],
    ]
    assert f"no longer exists and was left out of the thread: {url}" in text_blocks(second)[1]
    assert "no longer exists" not in text_blocks(third)[1]


async def test_a_dry_run_in_a_thread_with_a_missing_file_counts_what_the_call_would_send(tmp_path: Path) -> None:
    count = b'{"input_tokens": 1234}'
    head = b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(count)
    answers = [thinking_answer("s1"), http_400(UNAVAILABLE), head + count]
    async with (
        scripted_upstream(*answers) as api,
        connect("memory", "auto", tmp_path / "data", base_url=api.url, models_wait_s=0) as session,
    ):
        first = await session.ask("One.", model="claude-sonnet-5-5", files=["https://example.com/a.pdf"])
        quote = await session.ask("Two.", thread=thread_of(first), dry_run=True)
        posts = [request for request in api.requests if request.startswith(b"POST /v1/messages")]
    assert "| 1.2k |" in text_blocks(quote)[0]
    assert [question_kinds(post) for post in posts] == [["document", "text"], ["document", "text"], ["text", "text"]]


async def test_a_missing_url_in_the_question_itself_is_an_error(tmp_path: Path) -> None:
    async with (
        scripted_upstream(http_400(UNAVAILABLE)) as api,
        connect("memory", "auto", tmp_path / "data", base_url=api.url, models_wait_s=0) as session,
    ):
        result = await session.ask("One.", model="claude-sonnet-5-5", files=["https://example.com/a.pdf"])
        posts = [request for request in api.requests if request.startswith(b"POST /v1/messages")]
    assert failure_meta(result)["kind"] == "url_unavailable"
    assert len(posts) == 1


async def test_the_footer_reports_what_changed_since_the_last_answer(upstream: Simulator, tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with connect("memory", "auto", data, base_url=upstream.url) as session:
        thread = thread_of(await session.ask(f"One. {THINK}", model="sonnet"))
        same = await session.ask(f"Two. {THINK}", thread=thread)
        more_tools = await session.ask(f"Three. {THINK}", thread=thread, tools=["web"])
        again = await session.ask(f"Four. {THINK}", thread=thread, tools=["web"])
        other_model = await session.ask(f"Five. {THINK}", thread=thread, tools=["web"], model="opus")
    async with connect("memory", "auto", data, base_url=upstream.url, api_key="sk-ant-fake-other") as session:
        other_key = await session.ask("Six.", thread=thread)
    footers = [text_blocks(each)[1] for each in (same, again)]
    assert not any("left out" in footer or "may not read" in footer for footer in footers)
    assert (
        "the tools or the system prompt changed, so the thinking of earlier answers was left out"
        in (text_blocks(more_tools)[1])
    )
    assert (
        "claude-sonnet-5-5 gave the previous answer, and claude-opus-5-5 may not read its thinking"
        in (text_blocks(other_model)[1])
    )
    assert "the key or the platform changed" in text_blocks(other_key)[1]
