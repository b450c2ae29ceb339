from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import anyio
import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp.types import CallToolResult, ToolAnnotations
from pydantic import Field

from mcp_server_claude.errors import ConfigurationError, RequestError, TemporaryError
from mcp_server_claude.server import tool_results
from mcp_server_claude.server.mcp_server import build_mcp_server
from mcp_server_claude.server.strict_tool import StrictTool
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from support.mcp_session import failure_meta, text_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.types import Tool

    from mcp_server_claude.errors import CallError

pytestmark = pytest.mark.anyio

SNAPSHOT = Path(__file__).parents[2] / "snapshots" / "tools.json"
UPDATE = "UPDATE_SNAPSHOTS"
"""Write the snapshot again with `UPDATE_SNAPSHOTS=1 scripts/test tests/server/tools/test_tool_schemas.py`."""

CHARS_PER_TOKEN = 4


# --------------------------------------------------------------------- what clients see


async def list_tools(mode: str) -> list[Tool]:
    async with Client(build_mcp_server(Settings(), Services.lifespan), mode=mode) as client:
        return (await client.list_tools()).tools


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_tools_equal_the_snapshot(mode: str) -> None:
    tools = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in await list_tools(mode)]
    now = json.dumps(tools, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get(UPDATE):
        await anyio.Path(SNAPSHOT).write_text(now)
    assert now == await anyio.Path(SNAPSHOT).read_text(), f"Meant? Set {UPDATE}=1, and read the diff."


async def test_all_schemas_together_are_small() -> None:
    shown = [
        {"name": t.name, "description": t.description, "input_schema": t.input_schema} for t in await list_tools("auto")
    ]
    tokens = len(json.dumps(shown, ensure_ascii=False, separators=(",", ":"))) // CHARS_PER_TOKEN
    print(f"{len(shown)} tools, about {tokens} tokens")  # noqa: T201 - `pytest -s` shows it
    assert tokens < 1200


async def test_no_description_is_cut_by_claude_code() -> None:
    async with Client(build_mcp_server(Settings(), Services.lifespan)) as client:
        instructions = client.instructions or ""
        described = {tool.name: tool.description or "" for tool in (await client.list_tools()).tools}
    assert 0 < len(instructions) < 2000
    for name, description in described.items():
        assert name in instructions
        assert 0 < len(description) < 2000
        assert "\n " not in description


async def test_each_schema_is_strict_simple_and_described() -> None:
    for tool in await list_tools("auto"):
        schema = tool.input_schema
        assert schema["additionalProperties"] is False
        assert tool.output_schema is None
        assert '"title"' not in json.dumps(schema)
        assert "anyOf" not in json.dumps(schema)
        assert all(each["description"] for each in schema["properties"].values())


async def test_each_tool_has_its_behaviour_hints() -> None:
    tools = {tool.name: tool for tool in await list_tools("auto")}
    for tool in tools.values():
        assert tool.annotations is not None
        assert tool.annotations.title
        assert tool.annotations.destructive_hint is False
        assert (tool.meta or {})["anthropic/maxResultSizeChars"] == 500_000
        assert (tool.meta or {})["anthropic/searchHint"]
    for name in ("claude_ask", "claude_info"):
        annotations = tools[name].annotations
        assert annotations is not None
        assert annotations.read_only_hint is True
    assert [name for name, tool in tools.items() if (tool.meta or {}).get("anthropic/alwaysLoad")] == ["claude_ask"]


# --------------------------------------------------------------------- what a tool is wrapped in


async def call_tool(tool: Callable[..., object], **arguments: object) -> CallToolResult:
    strict_tool = StrictTool.for_function(tool, title="T", annotations=ToolAnnotations(), meta={})
    async with Client(MCPServer("test", tools=[strict_tool], log_level="CRITICAL")) as client:
        return await client.call_tool(strict_tool.name, arguments)


async def echo(
    text: Annotated[str, Field(description="Said back.")],
    count: Annotated[int, Field(description="How often.", ge=1)] = 1,
    tone: Annotated[Literal["", "low", "high"], Field(description="How.")] = "",
    items: Annotated[list[str], Field(description="More.")] = [],  # noqa: B006 - pydantic copies it
) -> CallToolResult:
    """Say it back."""
    return tool_results.text_result(f"{text!r} {count} {tone!r} {items}")


async def test_optional_nulls_are_left_out() -> None:
    assert text_blocks(await call_tool(echo, text="x", count=None, tone=None)) == ["'x' 1 '' []"]
    assert text_blocks(await call_tool(echo, text=None)) == ["text must be a valid string."]


async def test_texts_arrive_well_formed_at_any_depth() -> None:
    assert text_blocks(await call_tool(echo, text="\ud83d\ude00 \ud83d", items=["\ude00"])) == [
        "'😀 \ufffd' 1 '' ['\ufffd']"
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "text is required."),
        ({"text": "x", "count": 0}, "count must be greater than or equal to 1."),
        ({"text": "x", "tone": "loud"}, "tone must be one of low or high."),
        ({"text": "x", "items": ["a", 7]}, "items.1 must be a valid string."),
        ({"text": 1, "count": "many"}, "text must be a valid string. count must be a valid integer"),
        ({"text": "x", "txet": 1}, "There is no parameter named 'txet'. Did you mean text?"),
        ({"text": "x", "zzz": 1}, "There is no parameter named 'zzz'. There are: text, count, tone, items."),
        ({"text": "x", "a\x1b\nb" * 99: 1}, "There is no parameter named 'ababab"),
    ],
)
async def test_a_wrong_argument_is_reported_in_one_sentence(arguments: dict[str, object], expected: str) -> None:
    result = await call_tool(echo, **arguments)
    assert expected in text_blocks(result)[0]
    assert len(text_blocks(result)[0]) < 300
    assert failure_meta(result)["class"] == "request_error"


@pytest.mark.parametrize(
    "raised", [RequestError("No."), TemporaryError("Later.", retry_after_s=3.0), ConfigurationError("You.")]
)
@pytest.mark.parametrize("grouped", [False, True])
async def test_a_failure_is_a_result_that_names_who_can_mend_it(raised: CallError, grouped: bool) -> None:  # noqa: FBT001
    async def fail() -> CallToolResult:
        """Fail."""
        if not grouped:
            raise raised
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail_below)
        return tool_results.text_result("never")

    async def fail_below() -> None:
        raise raised

    result = await call_tool(fail)
    assert text_blocks(result) == [str(raised)]
    assert failure_meta(result) == raised.as_json()


async def test_a_bug_is_reported_as_internal_and_without_its_text() -> None:
    async def crash() -> CallToolResult:
        """Crash."""
        raise KeyError("secret")

    result = await call_tool(crash)
    assert result.is_error
    assert "secret" not in result.model_dump_json()
    assert result.meta is None or "mcp-server-claude/failure" not in result.meta
