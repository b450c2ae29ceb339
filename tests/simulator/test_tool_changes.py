"""Changes of tools in mid-conversation, by raw requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from mcp_server_claude.simulator import Pace, Simulator, directive
from mcp_server_claude.simulator.tool_changes import INLINE_TOOLS_BETA, TOOL_CHANGES_BETA, offered_tools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

LOOK: dict[str, Any] = {"name": "look", "input_schema": {"type": "object", "properties": {}}}
SEARCH: dict[str, Any] = {"type": "web_search_20260318", "name": "web_search"}
HELLO: dict[str, Any] = {"role": "user", "content": f"Hello. {directive(think=20)}"}


@pytest.fixture
async def api() -> AsyncIterator[Simulator]:
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as simulator:
        yield simulator


def change(kind: str, tool: dict[str, Any]) -> dict[str, Any]:
    return {"role": "system", "content": [{"type": kind, "tool": tool}]}


def added(definition: dict[str, Any]) -> dict[str, Any]:
    return change("tool_addition", {"type": "tool_definition", "definition": definition})


def named(kind: str, name: str) -> dict[str, Any]:
    return change(kind, {"type": "tool_reference", "name": name})


async def send(
    api: Simulator, *messages: dict[str, Any], betas: str = INLINE_TOOLS_BETA, **fields: Any
) -> httpx2.Response:
    body = {"model": "claude-sonnet-5-5", "max_tokens": 1000, "messages": list(messages)} | fields
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21", "anthropic-beta": betas}
    async with httpx2.AsyncClient(base_url=api.url, headers=headers, timeout=30) as client:
        return await client.post("/v1/messages", json=body)


def error_of(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 400
    error: dict[str, Any] = response.json()["error"]
    return error


async def test_an_added_tool_is_used_and_leaves_earlier_thinking_valid(api: Simulator) -> None:
    first = {"role": "assistant", "content": (await send(api, HELLO)).json()["content"]}
    asked = {"role": "user", "content": f"News? {directive(think=20)} search"}
    answer = await send(api, HELLO, first, asked, added(SEARCH))
    assert answer.json()["usage"]["server_tool_use"]["web_search_requests"] == 1
    second = {"role": "assistant", "content": answer.json()["content"]}
    assert (await send(api, HELLO, first, asked, added(SEARCH), second, HELLO)).status_code == 200
    in_tools = await send(api, HELLO, first, asked, tools=[SEARCH])
    assert "bound to a different conversation" in error_of(in_tools)["message"]
    taken_away = await send(api, HELLO, first, asked, second, HELLO)
    assert "bound to a different conversation" in error_of(taken_away)["message"]


async def test_a_deferred_tool_that_nothing_refers_to_is_no_part_of_the_prefix(api: Simulator) -> None:
    first = {"role": "assistant", "content": (await send(api, HELLO, tools=[LOOK])).json()["content"]}
    deferred = [LOOK, {**SEARCH, "defer_loading": True}]
    offered = named("tool_addition", "web_search")
    answer = await send(api, HELLO, first, HELLO, offered, tools=deferred, betas=TOOL_CHANGES_BETA)
    assert answer.status_code == 200
    second = {"role": "assistant", "content": answer.json()["content"]}
    newer = [LOOK, {**SEARCH, "defer_loading": True, "max_uses": 3}]
    changed = await send(api, HELLO, first, HELLO, offered, second, HELLO, tools=newer)
    assert "messages.4" in error_of(changed)["message"]


def test_the_tools_that_are_offered_follow_the_changes() -> None:
    newer = {**LOOK, "description": "Look about."}
    messages = [HELLO, added(SEARCH), HELLO, named("tool_removal", "look"), HELLO, added(newer)]
    body: dict[str, Any] = {"tools": [LOOK], "messages": messages}
    assert offered_tools(body) == [SEARCH, newer]


@pytest.mark.parametrize(
    ("message", "betas", "words", "code"),
    [
        (added(SEARCH), "", "does not match any of the expected tags", None),
        (added(SEARCH), TOOL_CHANGES_BETA, "requires the `inline-tools-2026-09-15` beta", None),
        (named("tool_addition", "nobody"), INLINE_TOOLS_BETA, "not declared", "tool_reference_unresolved"),
        (added({**SEARCH, "name": "look"}), INLINE_TOOLS_BETA, "another type", "tool_name_conflict"),
        (added(LOOK) | {"role": "user"}, INLINE_TOOLS_BETA, "only permitted in 'system' messages", None),
    ],
)
async def test_a_change_that_the_api_does_not_take_is_a_400(
    api: Simulator, message: dict[str, Any], betas: str, words: str, code: str | None
) -> None:
    error = error_of(await send(api, HELLO, message, betas=betas, tools=[LOOK]))
    assert words in error["message"]
    assert error.get("details", {}).get("error_code") == code


async def test_a_model_without_system_messages_takes_no_changes(api: Simulator) -> None:
    assert (await send(api, HELLO, added(SEARCH), model="claude-sonnet-4-6")).status_code == 400


async def test_no_tool_may_be_used_where_none_is_offered(api: Simulator) -> None:
    assert (await send(api, HELLO, tool_choice={"type": "none"})).status_code == 200
    refused = await send(api, HELLO, tool_choice={"type": "any"}, model="claude-haiku-4-5")
    assert error_of(refused)["message"] == "tool_choice.any may only be specified while providing tools"
