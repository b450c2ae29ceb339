from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from mcp_server_claude.engine.continuation import CONTINUE_PROMPT, overlap_anchor
from mcp_server_claude.simulator import Simulator, directive
from support.mcp_session import ProgressUpdate, connect, text_blocks, usage_meta
from support.recorded_streams import sse_bytes
from support.scripted_upstream import scripted_upstream

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

PREFILLED, PROMPTED = "claude-haiku-4-5", "claude-sonnet-5-5"
PROMPT = "Tell me all about tea."


def sent_bodies(api: Simulator) -> list[dict[str, object]]:
    return [cast("dict[str, object]", record.body) for record in api.requests if record.path == "/v1/messages"]


def turns(body: dict[str, object]) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", body["messages"])


@pytest.mark.parametrize("model", [PREFILLED, PROMPTED])
async def test_a_turn_that_pauses_after_a_broken_stream_is_resumed_with_the_earlier_text(
    upstream: Simulator, tmp_path: Path, model: str
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        updates: list[ProgressUpdate] = []
        prompt = f"{PROMPT} {directive(fault='drop', at=100, times=1, stop='pause_turn', late='on', think=0)}"
        result = await session.ask(prompt, model=model, updates=updates, style="text")
        first, second, third = sent_bodies(upstream)
        complete = upstream.answer_to(
            {"model": model, "max_tokens": 4000, "messages": [{"role": "user", "content": PROMPT}]}
        )
    text = upstream.requests[-3].text.rstrip()
    continue_prompt = (
        [] if model == PREFILLED else [{"role": "user", "content": CONTINUE_PROMPT.format(anchor=overlap_anchor(text))}]
    )
    assert turns(second) == [*turns(first), {"role": "assistant", "content": text}, *continue_prompt]
    assert turns(third)[:-1] == turns(second)
    paused = cast("list[dict[str, object]]", turns(third)[-1]["content"])
    assert [block["type"] for block in paused] == ["text", "server_tool_use", "web_search_tool_result"]
    assert text_blocks(result)[0] == "".join(each.message or "" for each in updates) == complete
    assert usage_meta(result)["complete"]
    assert usage_meta(result)["retries"] == 1


async def test_a_file_tool_after_a_broken_stream_is_resumed_with_the_earlier_text(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        prompt = f"{PROMPT} {directive(fault='drop', at=100, times=1, stop='tool_use', late='on', think=0)}"
        result = await session.ask(prompt, model=PROMPTED, tools=["read"])
        first, second, third = sent_bodies(upstream)
    assert turns(third)[: len(turns(second))] == turns(second)
    assert [turn["role"] for turn in turns(third)] == ["user", "assistant", "user", "assistant", "user"]
    assert turns(second)[0] == turns(first)[0]
    text = cast("str", turns(second)[1]["content"])
    assert text_blocks(result)[0].startswith(text)
    assert usage_meta(result)["complete"]


async def test_half_a_character_of_a_broken_stream_is_not_joined_with_the_next_one(tmp_path: Path) -> None:
    usage: dict[str, object] = {"input_tokens": 7, "output_tokens": 1}
    message: dict[str, object] = {"id": "m", "type": "message", "role": "assistant", "model": "claude-haiku-5-5"}
    content: list[object] = []
    start: dict[str, object] = {
        "type": "message_start",
        "message": {**message, "content": content, "stop_reason": None, "usage": usage},
    }

    def text(text_so_far: str) -> list[object]:
        return [
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text_so_far}},
        ]

    def end(reason: str) -> list[object]:
        return [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
        ]

    paused = sse_bytes(start, *text("Smile: "), *end("pause_turn"))
    broken = sse_bytes(start, *text("\ud83d"), escaped=True)
    complete = sse_bytes(start, *text("\U0001f600!"), *end("end_turn"))
    async with (
        scripted_upstream(paused, broken, complete) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url, models_wait_s=0) as session,
    ):
        result = await session.ask(PROMPT, model="claude-haiku-5-5")
        assert text_blocks(result)[0] == "Smile: \U0001f600!"
        assert len(upstream.requests) >= 3
