from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from mcp.shared.exceptions import MCPError

from support.mcp_session import connect, text_blocks, usage_meta

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator
    from support.mcp_session import ProtocolMode

pytestmark = pytest.mark.anyio

RESOURCE_NOT_FOUND, INVALID_PARAMS = -32002, -32602
BOTH_VERSIONS = pytest.mark.parametrize(
    ("mode", "not_found"), [("legacy", RESOURCE_NOT_FOUND), ("auto", INVALID_PARAMS)], ids=["legacy", "auto"]
)


@BOTH_VERSIONS
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
    upstream: Simulator, tmp_path: Path, mode: ProtocolMode, not_found: int, address: str
) -> None:
    async with connect("memory", mode, tmp_path / "data", base_url=upstream.url) as desk:
        with pytest.raises(MCPError) as raised:
            await desk.client.read_resource(address)
    assert raised.value.code == not_found


@BOTH_VERSIONS
async def test_an_address_with_a_wrong_page_has_invalid_parameters_in_every_version(
    upstream: Simulator, tmp_path: Path, mode: ProtocolMode, not_found: int
) -> None:
    del not_found
    async with connect("memory", mode, tmp_path / "data", base_url=upstream.url) as desk:
        call_id = usage_meta(await desk.ask("x"))["call_id"]
        with pytest.raises(MCPError, match="must be a number") as raised:
            await desk.client.read_resource(f"claude://calls/{call_id}?offset=some")
    assert raised.value.code == INVALID_PARAMS


@BOTH_VERSIONS
async def test_an_unknown_tool_is_a_protocol_error_that_names_the_tools(
    upstream: Simulator, tmp_path: Path, mode: ProtocolMode, not_found: int
) -> None:
    del not_found
    async with connect("memory", mode, tmp_path / "data", base_url=upstream.url) as desk:
        with pytest.raises(MCPError, match=r"There is no tool named 'claude_aks'\. There are: claude_ask, ") as raised:
            await desk.client.call_tool("claude_aks", {"prompt": "x"})
    assert raised.value.code == INVALID_PARAMS


@BOTH_VERSIONS
async def test_only_what_there_is_is_announced(
    upstream: Simulator, tmp_path: Path, mode: ProtocolMode, not_found: int
) -> None:
    del not_found
    async with connect("memory", mode, tmp_path / "data", base_url=upstream.url) as desk:
        announced = desk.client.server_capabilities
        assert announced is not None
        assert (await desk.client.list_tools()).tools
        assert announced.tools is not None
        assert (await desk.client.list_resources()).resources
        assert announced.resources is not None
        assert announced.logging is None
        if announced.prompts is not None:
            assert (await desk.client.list_prompts()).prompts


async def test_the_id_of_a_call_in_place_of_a_threads_is_recognized(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as desk:
        used = usage_meta(await desk.ask("x"))
        call_id, thread = cast("str", used["call_id"]), cast("str", used["thread"])
        (told,) = text_blocks(await desk.ask("And?", thread=call_id))
        (priced,) = text_blocks(await desk.ask("And?", thread=call_id, dry_run=True))
        (unknown,) = text_blocks(await desk.ask("And?", thread="c_0000000000000000"))
    assert told.startswith(f"{call_id} is a call; its thread is {thread}.")
    assert priced == f"{call_id} is a call; its thread is {thread}."
    assert unknown.startswith("There is no thread of that id")
