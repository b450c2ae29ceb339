"""The HTTP server while it is idle: no timer and no task wakes it up."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, cast

import anyio
import httpx2
import pytest

from mcp_server_claude.simulator import Pace, Simulator
from support.mcp_session import http_server_in_loop

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

SOON_S = 5
"""Seconds below which a timer counts as polling."""


async def test_an_idle_server_has_no_timer_that_is_due_soon(tmp_path: Path) -> None:
    async with http_server_in_loop(data_dir=tmp_path):
        await anyio.wait_all_tasks_blocked()
        loop = asyncio.get_running_loop()
        timers = cast("list[asyncio.TimerHandle]", getattr(loop, "_scheduled"))  # noqa: B009 - private, and not in its type
        due = [(timer.when() - loop.time(), timer) for timer in timers if not timer.cancelled()]
    assert [timer for left_s, timer in due if left_s < SOON_S] == []


async def test_a_stream_of_events_leaves_no_task_behind_that_polls(tmp_path: Path) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api,
        http_server_in_loop(data_dir=tmp_path, base_url=api.url) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=60) as client,
    ):
        response = await client.post("/chat", json={"message": "Hello."}, headers={"accept": "text/event-stream"})
        names = [str(task.get_coro()) for task in asyncio.all_tasks()]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert parsedate_to_datetime(response.headers["date"])
    assert [name for name in names if "watcher" in name] == []
