"""HEAD requests, as load balancers and link checkers send them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import anyio
import pytest
from starlette.routing import Route

from mcp_server_claude.web.fastapi_app import ROUTE_MODULES
from support.http_server import http_server_thread

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


def get_paths() -> list[str]:
    """The address of every GET route, with an unknown id in place of each parameter."""
    routes = [route for module in ROUTE_MODULES for route in module.router.routes]
    paths = [
        re.sub(r"\{[^}]*\}", "c_00000000", route.path)
        for route in routes
        if isinstance(route, Route) and "GET" in (route.methods or ())
    ]
    assert {"/", "/healthz", "/readyz", "/metrics", "/me.json", "/usage.csv"} <= set(paths)
    return [*paths, "/openapi.json", "/nothing-here"]


@pytest.mark.parametrize("user", ["", "ada"])
async def test_head_has_the_status_and_headers_of_get_and_no_body(
    upstream: Simulator, tmp_path: Path, user: str
) -> None:
    async with (
        http_server_thread(tmp_path / "data", upstream.url, users=["ada"]) as server,
        server.client(user) as client,
    ):
        for path in get_paths():
            get, head = await client.get(path), await client.head(path)
            assert head.status_code == get.status_code != 405, path
            assert head.content == b"", path
            names = (get.headers.keys() | head.headers.keys()) - {"date", "transfer-encoding"}
            if path == "/metrics":
                names -= {"content-length"}  # each request changes the measurements
            assert {name: head.headers.get(name) for name in names} == {name: get.headers.get(name) for name in names}


async def test_head_of_an_event_stream_ends_at_once_and_what_it_follows_continues(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url) as server, server.client() as client:
        started = await client.post("/jobs", json={"message": "Hello? [[sim: tokens=40 fault=stall at=100 times=1]]"})
        job, call = started.headers["location"], ""
        with anyio.fail_after(60):
            while not call:
                call = (await client.get(job)).json()["call_id"]
        answer = f"/chat/{call}"
        for path in (job, answer):
            head = await client.head(path, headers={"Accept": "text/event-stream"})
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"].startswith("text/event-stream")
        assert (await client.get(job)).json()["state"] == "running"
        assert (await client.post(f"{job}/stop", json={})).json() == {"stopping": True}


async def test_head_of_a_route_that_only_takes_post_is_refused(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url) as server, server.client() as client:
        head = await client.head("/chat")
        assert (head.status_code, head.headers["allow"]) == (405, "POST")
        assert (await client.head("/mcp")).status_code == 405
    assert not [record for record in upstream.requests if record.path == "/v1/messages"]
