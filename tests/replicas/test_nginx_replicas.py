"""nginx with the configuration for replicas that we ship: sessions of 2025-11-25 stay on one, all else goes to any."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from support.chat_reader import ask_chat
from support.http_server import RunningHttpServer
from support.nginx_process import NGINX, nginx_process
from support.raw_mcp_http import raw_mcp_client
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mcp_server_claude.simulator import Simulator
    from support.replicas import Replicas

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx.replicas.conf"
TIMEOUT_S = 60
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(NGINX is None, reason="there is no nginx here"),
]


def nginx(home: Path, replicas: Replicas) -> AbstractContextManager[str]:
    """nginx in front of the replicas, with the shipped configuration but for TLS; its URL."""

    def http_block(port: int) -> str:
        text = re.sub(r"^ *ssl_.*\n", "", SHIPPED.read_text(), flags=re.MULTILINE)
        text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port}").replace("claude.example.com", "localhost")
        for number, server in enumerate(replicas.servers, 1):
            text = text.replace(f"claude-{number}.internal:8000", server.url.removeprefix("http://"))
        return text

    return nginx_process(home, http_block)


async def wait_until_listening(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    while True:
        try:
            stream = await anyio.connect_tcp(host, int(port))
        except OSError:
            await anyio.lowlevel.checkpoint()
        else:
            await stream.aclose()
            return


@pytest.mark.slow
async def test_sessions_stay_on_one_replica_and_everything_else_goes_to_both(
    replicas: Replicas, api: Simulator, tmp_path: Path
) -> None:
    api.reset()
    with nginx(tmp_path / "nginx", replicas) as url, anyio.fail_after(TIMEOUT_S):
        await wait_until_listening(url)
        for user in ("ada", "bob"):
            for _ in range(4):  # each session begins with a request that has no session id
                async with raw_mcp_client(url, "2025-11-25", replicas.tokens[user]) as client:
                    for _ in range(4):
                        assert (await client.post("tools/list")).status_code == 200
        async with RunningHttpServer(url, replicas.tokens).client("ada") as http:
            for _ in range(4):
                assert (await ask_chat(http, "Through nginx."))[-1].json["complete"] is True
        async with raw_mcp_client(url, "2026-07-28", replicas.tokens["ada"]) as modern:
            for _ in range(12):  # by chance all to the same one: 1 in 2,048
                assert not (await modern.call_tool("claude_ask", prompt="Modern.")).get("isError")
    assert len(message_requests(api)) == 16
    for prompt in ("Through nginx.", "Modern."):
        heads = "select distinct worker from call where prompt_head = %s"
        assert len(replicas.rows(heads, prompt)) == 2, prompt
