from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from mcp.shared.exceptions import MCPError

from support.mcp_session import connect, text_blocks, usage_meta
from support.stdio_process import stdio_process

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator
    from support.mcp_session import McpSession, ProtocolMode

pytestmark = pytest.mark.anyio

RESOURCE_NOT_FOUND, INVALID_PARAMS = -32002, -32602
NOT_FOUND_OF_MODE = {"legacy": RESOURCE_NOT_FOUND, "auto": INVALID_PARAMS}


@pytest.fixture(params=["legacy", "auto"])
def mode(request: pytest.FixtureRequest) -> ProtocolMode:
    return request.param


@pytest.fixture
def session(upstream: Simulator, tmp_path: Path, mode: ProtocolMode) -> AbstractAsyncContextManager[McpSession]:
    return connect("memory", mode, tmp_path / "data", base_url=upstream.url)


@pytest.mark.parametrize(
    "address",
    [
        "claude://calls/c_0000000000000000",
        "claude://threads/t_0000000000000000",
        "claude://files/file_nobody",
        "claude://nothing",
        "file:///etc/passwd",
    ],
)
async def test_an_unknown_resource_has_the_code_of_its_protocol_version(
    session: AbstractAsyncContextManager[McpSession], mode: ProtocolMode, address: str
) -> None:
    async with session as mcp_session:
        with pytest.raises(MCPError) as raised:
            await mcp_session.client.read_resource(address)
    assert raised.value.code == NOT_FOUND_OF_MODE[mode]


async def test_an_address_with_a_wrong_page_has_invalid_parameters_in_every_version(
    session: AbstractAsyncContextManager[McpSession],
) -> None:
    async with session as mcp_session:
        call_id = usage_meta(await mcp_session.ask("x"))["call_id"]
        with pytest.raises(MCPError, match="must be a number") as raised:
            await mcp_session.client.read_resource(f"claude://calls/{call_id}?offset=some")
    assert raised.value.code == INVALID_PARAMS


async def test_an_unknown_tool_is_a_protocol_error_that_names_the_tools(
    session: AbstractAsyncContextManager[McpSession],
) -> None:
    async with session as mcp_session:
        with pytest.raises(MCPError, match=r"There is no tool named 'claude_aks'\. There are: claude_ask, ") as raised:
            await mcp_session.client.call_tool("claude_aks", {"prompt": "x"})
    assert raised.value.code == INVALID_PARAMS


async def test_a_prompt_argument_of_another_type_is_named_without_its_value(tmp_path: Path) -> None:
    params: dict[str, object] = {"name": "explain", "arguments": {"path": 12345}}
    async with stdio_process(tmp_path / "data") as stdio:
        await stdio.initialize()
        await stdio.send({"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": params})
        error = cast("dict[str, object]", (await stdio.read_response(1))["error"])
    assert error["code"] == INVALID_PARAMS
    assert error["message"] == "params.arguments.path must be a valid string."


async def test_only_existing_features_are_announced(
    session: AbstractAsyncContextManager[McpSession],
) -> None:
    async with session as mcp_session:
        announced = mcp_session.client.server_capabilities
        assert announced is not None
        assert (await mcp_session.client.list_tools()).tools
        assert announced.tools is not None
        assert (await mcp_session.client.list_resources()).resources
        assert announced.resources is not None
        assert announced.logging is None
        if announced.prompts is not None:
            assert (await mcp_session.client.list_prompts()).prompts


async def test_the_id_of_a_call_instead_of_a_thread_is_recognised(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        used = usage_meta(await session.ask("x"))
        call_id, thread = cast("str", used["call_id"]), cast("str", used["thread"])
        (text,) = text_blocks(await session.ask("And?", thread=call_id))
        (priced,) = text_blocks(await session.ask("And?", thread=call_id, dry_run=True))
        (unknown,) = text_blocks(await session.ask("And?", thread="c_0000000000000000"))
    assert text.startswith(f"{call_id} is a call; its thread is {thread}.")
    assert priced == f"{call_id} is a call; its thread is {thread}."
    assert unknown.startswith("There is no thread with that id")
