"""Idle servers over stdio: what is imported and what runs before the first call."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude.server.tool_dependencies import OPENING_NOTE
from mcp_server_claude.server.tools.ask import LOADING_STAGE
from mcp_server_claude.services import lazy_services
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from support.mcp_session import FAKE_KEY, ProgressUpdate, connect, text_blocks
from support.stdio_process import stdio_process, tool_call

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.types import CallToolResult

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


@pytest.mark.parametrize(
    ("preload", "http", "is_built"), [(False, False, False), (True, False, True), (False, True, True)]
)
async def test_the_client_is_built_before_the_first_question_over_http_or_where_that_is_set(
    api: Simulator, tmp_path: Path, *, preload: bool, http: bool, is_built: bool
) -> None:
    settings = Settings.model_validate(
        {"api_key": FAKE_KEY, "base_url": api.url, "data_dir": tmp_path, "preload": preload}
    )
    async with Services.lifespan(settings, http=http) as services:
        await services.open()
        with anyio.fail_after(60):
            await services.wait_until_started()
        assert services.has_client == is_built


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
            first_lines.append(next(each.message for each in updates if each.message != OPENING_NOTE))
    assert first_lines[0] is not None
    assert first_lines[0].startswith(LOADING_STAGE)
    assert first_lines[1] is not None
    assert first_lines[1].startswith("starting")


@pytest.mark.parametrize("style", ["text", "status"])
async def test_a_call_before_the_services_are_open_reports_progress_at_once(
    api: Simulator, tmp_path: Path, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The modules and the database take half a second, and a program may call right after the handshake."""
    open_services = getattr(lazy_services, "_open_on_thread")  # noqa: B009 - private: what takes half a second
    may_open = threading.Event()

    def wait_and_open(*arguments: Any, **options: Any) -> object:
        assert may_open.wait(60)
        return open_services(*arguments, **options)

    monkeypatch.setattr(lazy_services, "_open_on_thread", wait_and_open)
    updates: list[ProgressUpdate] = []
    results: list[CallToolResult] = []
    async with connect("memory", "auto", tmp_path / "data", base_url=api.url) as session:

        async def ask() -> None:
            results.append(await session.ask("Tea?", updates=updates, style=style))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            try:
                with anyio.fail_after(60):
                    while not updates:  # noqa: ASYNC110 - a list that the session fills
                        await anyio.sleep(0.01)
                assert updates == [ProgressUpdate(0, OPENING_NOTE if style == "status" else None)]
            finally:
                may_open.set()
    assert [each.progress for each in updates] == sorted({each.progress for each in updates})
    if style == "text":
        assert text_blocks(results[0])[0] == "".join(each.message or "" for each in updates)
