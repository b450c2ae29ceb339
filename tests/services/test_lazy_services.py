"""Idle servers over stdio: what is imported and what runs before the first call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude.server.tools.ask import LOADING_STAGE
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from support.mcp_session import FAKE_KEY, ProgressUpdate, connect, text_blocks
from support.stdio_process import stdio_process, tool_call

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

HEAVY_PACKAGES = {"anthropic", "aiohttp", "genai_prices", "jiter", "fastapi", "typer", "jsonschema_rs", "boto3"}
"""Packages that only calls or other commands need."""
POSTGRES_PACKAGES = {"psycopg", "psycopg_binary", "psycopg_pool"}
HOUR_S = 3600


def imported_packages(stderr: Path) -> set[str]:
    """The packages of the lines that `python -X importtime` writes."""
    lines = [line for line in stderr.read_text().splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


async def test_no_heavy_module_is_imported_before_the_first_question(api: Simulator, tmp_path: Path) -> None:
    command = ("-X", "importtime", "-m", "mcp_server_claude")
    async with stdio_process(tmp_path / "data", command=command, base_url=api.url) as server:
        await server.initialize()
        await server.send({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        await server.read_response(1)
        await server.send(tool_call(2, "", tool="claude_jobs"))  # waits until the store is open
        await server.read_response(2)
        idle = imported_packages(server.stderr)
        await server.send(tool_call(3, "Tea?"))
        await server.read_response(3)
        used = imported_packages(server.stderr)
    assert {"mcp", "sqlite3"} <= idle
    assert HEAVY_PACKAGES & idle == set()
    assert {"anthropic", "genai_prices"} <= used
    assert POSTGRES_PACKAGES & used == set()


async def test_psycopg_is_imported_where_the_database_is_on_a_server(api: Simulator, tmp_path: Path) -> None:
    command = ("-X", "importtime", "-m", "mcp_server_claude")
    url = f"postgresql://ada@/ledger?host={tmp_path}"  # no server listens there
    async with stdio_process(tmp_path / "data", command=command, base_url=api.url, database_url=url) as server:
        await server.initialize()
        await server.send(tool_call(1, "", tool="claude_jobs"))  # waits until the store is open
        await server.read_response(1)
        assert "psycopg" in imported_packages(server.stderr)


@pytest.mark.parametrize("preload", [False, True])
async def test_the_client_is_built_before_the_first_question_only_where_that_is_set(
    api: Simulator,
    tmp_path: Path,
    preload: bool,  # noqa: FBT001
) -> None:
    settings = Settings.model_validate(
        {"api_key": FAKE_KEY, "base_url": api.url, "data_dir": tmp_path, "preload": preload}
    )
    async with Services.lifespan(settings) as services:
        await services.open()
        with anyio.fail_after(60):
            await services.wait_until_started()
        assert services.has_client == preload


async def test_no_timer_runs_while_no_call_is_open(api: Simulator, tmp_path: Path) -> None:
    settings = Settings.model_validate({"api_key": FAKE_KEY, "base_url": api.url, "data_dir": tmp_path})
    loop = asyncio.get_running_loop()
    before = scheduled_timers(loop)
    async with Services.lifespan(settings) as services:
        await services.open()
        await services.wait_until_started()
        await anyio.wait_all_tasks_blocked()
        started = [timer for timer in scheduled_timers(loop) if timer not in before]
        assert [timer for timer in started if timer.when() < loop.time() + HOUR_S] == []


def scheduled_timers(loop: asyncio.AbstractEventLoop) -> list[asyncio.TimerHandle]:
    timers = cast("list[asyncio.TimerHandle]", cast("Any", loop)._scheduled)
    return [timer for timer in timers if not timer.cancelled()]


async def test_the_first_progress_reports_that_the_client_is_being_loaded(api: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url) as session:
        first_lines: list[str | None] = []
        for _ in range(2):
            updates: list[ProgressUpdate] = []
            assert text_blocks(await session.ask("Tea?", updates=updates, style="status"))
            first_lines.append(updates[0].message)
    assert first_lines[0] is not None
    assert first_lines[0].startswith(LOADING_STAGE)
    assert first_lines[1] is not None
    assert first_lines[1].startswith("starting")
