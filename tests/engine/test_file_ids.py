"""Ids of the Files API belong to a user over HTTP, where several people share a workspace."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import httpx2
import pytest

from mcp_server_claude.simulator import directive
from support.mcp_session import connect, failure_meta, http_server_in_loop, text_blocks

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

CODE: dict[str, Any] = {
    "prompt": f"Please compute {directive(makes='mean.csv')}",
    "tools": ["code"],
    "model": "sonnet",
}
FOREIGN = "file_011CNha8iCJcU1wXNR6q4V8w"


def issued_id(data_dir: Path) -> str:
    """The id of the only file that code has made."""
    with closing(sqlite3.connect(data_dir / "store.db")) as connection:
        ((file_id,),) = connection.execute("select file_id from produced").fetchall()
    return cast("str", file_id)


def sent_messages(upstream: Simulator) -> list[str]:
    return [str(record.body) for record in upstream.requests if record.path == "/v1/messages"]


async def test_a_file_id_is_accepted_only_from_the_user_to_whom_it_was_issued(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with http_server_in_loop(data_dir=tmp_path / "data", base_url=upstream.url) as server:
        ada, bob = await server.token("ada"), await server.token("bob")
        async with server.client(ada) as client:
            await client.call_tool("claude_ask", CODE)
            file_id = issued_id(tmp_path / "data")
            before = len(sent_messages(upstream))
            await client.call_tool("claude_ask", {"prompt": "Read it.", "files": [file_id]})
            assert file_id in sent_messages(upstream)[before]
        async with server.client(bob) as client:
            for name in (file_id, f"{file_id}#image", FOREIGN):
                result = await client.call_tool("claude_ask", {"prompt": "Read it.", "files": [name]})
                assert failure_meta(result)["kind"] == "not_found"
                assert "is not a file that this server issued to you" in text_blocks(result)[0]
    assert len(sent_messages(upstream)) == before + 1


async def test_chat_accepts_no_foreign_file_id(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_in_loop(data_dir=tmp_path / "data", base_url=upstream.url) as server:
        token = await server.token("ada")
        async with httpx2.AsyncClient() as client:
            response = await client.post(
                f"{server.url}/chat",
                json={"message": "Read it.", "files": [FOREIGN]},
                headers={"Authorization": f"Bearer {token}"},
            )
    assert "is not a file that this server issued to you" in response.text
    assert not sent_messages(upstream)


async def test_the_operator_can_allow_every_file_id(upstream: Simulator, tmp_path: Path) -> None:
    async with (
        http_server_in_loop(data_dir=tmp_path / "data", base_url=upstream.url, allow_file_ids=True) as server,
        server.client(await server.token("ada")) as client,
    ):
        await client.call_tool("claude_ask", {"prompt": "Read it.", "files": [FOREIGN]})
    assert FOREIGN in sent_messages(upstream)[0]


async def test_on_stdio_every_file_id_is_accepted(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        await session.ask("Read it.", files=[FOREIGN])
    assert FOREIGN in sent_messages(upstream)[0]
