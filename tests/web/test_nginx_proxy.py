"""A proxy in front does not gather what streams: nginx as Debian ships it, and with the configuration that we ship."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx2
import pytest

from support.http_server import http_server_thread
from support.nginx_process import NGINX, nginx_process

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mcp_server_claude.simulator import Simulator

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx.conf"
pytestmark = [pytest.mark.anyio, pytest.mark.skipif(NGINX is None, reason="there is no nginx here")]

SSE = "text/event-stream"
WORDS = re.compile(r"^data: (.*)$", re.MULTILINE)
SLOW = "Speak slowly. [[sim: tokens=4000 think=0 pace=20]]"
DEFAULTS = "location / { proxy_pass http://$UPSTREAM; proxy_http_version 1.1; gzip on; gzip_types *; }"


def shipped() -> str:
    """The location that `deploy/nginx.conf` has."""
    text = SHIPPED.read_text()
    location = text[text.index("    location /") : text.rindex("}")]
    return location.replace("127.0.0.1:8000", "$UPSTREAM")


def proxy(home: Path, upstream: str, location: str) -> AbstractContextManager[str]:
    """nginx on a free port of loopback, passing on to `upstream`; its URL."""
    # The server checks the Host, so this proxy passes on one that it knows.
    rules = location.replace("$UPSTREAM", upstream.removeprefix("http://")).replace("$host", "localhost")
    return nginx_process(home, lambda port: f"server {{ listen 127.0.0.1:{port}; {rules} }}")


@pytest.mark.parametrize("kind", [SSE, "text/plain"])
@pytest.mark.parametrize("location", [DEFAULTS, shipped()], ids=["defaults", "shipped"])
async def test_text_passes_the_proxy_while_the_answer_is_written(
    upstream: Simulator, tmp_path: Path, location: str, kind: str
) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, users=("ada",)) as server:
        headers = {"authorization": f"Bearer {server.tokens['ada']}", "accept": kind, "accept-encoding": "gzip"}
        with proxy(tmp_path / "nginx", server.url, location) as url:
            await _listens(url)
            async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
                async with client.stream("POST", "/chat", json={"message": SLOW}, headers=headers) as answer:
                    assert answer.status_code == 200
                    seen = ""
                    async for piece in answer.aiter_text():
                        seen += piece
                        if len("".join(WORDS.findall(seen)) if kind == SSE else seen) > 20:
                            break
                # The upstream is in the middle of an answer that takes minutes, so nothing was held back to its end.
                assert [record.ended_at for record in upstream.requests if record.path == "/v1/messages"] == [None]
                if kind == SSE:
                    call = json.loads(seen.split("event: start")[1].split("data:")[1].splitlines()[0])["call"]
                    assert (await client.post(f"/chat/{call}/stop", json={}, headers=headers)).status_code == 200


async def _listens(url: str) -> None:
    """Wait until something answers there."""
    host, _, port = url.removeprefix("http://").partition(":")
    with anyio.fail_after(20):
        while True:
            try:
                await (await anyio.connect_tcp(host, int(port))).aclose()
            except OSError:
                await anyio.sleep(0.02)
            else:
                return
