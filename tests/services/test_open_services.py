"""The end of a server: what was written last reaches the database."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import psycopg
import pytest

from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from mcp_server_claude.store import process_locks
from support.mcp_session import FAKE_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

LOCK_HELD_S = 1.0
"""Seconds for which the database answers nothing: longer than an exit waits for a database file."""


async def test_an_exit_waits_until_a_slow_database_server_has_the_last_writes(
    api: Simulator, postgres_url: str, tmp_path: Path
) -> None:
    settings = Settings.model_validate(
        {"api_key": FAKE_KEY, "base_url": api.url, "data_dir": tmp_path, "database_url": postgres_url}
    )
    with psycopg.connect(postgres_url) as other:
        async with Services.lifespan(settings) as services:
            await services.open()
            with anyio.fail_after(60):
                await services.wait_until_started()
            store = services.store
            other.execute("lock table process in access exclusive mode")
            store.write_nowait(process_locks.register_process, "w_last")
            release = threading.Timer(LOCK_HELD_S, other.commit)
            release.start()
        await anyio.to_thread.run_sync(release.join)
        rows = other.execute("select 1 from process where id = 'w_last'").fetchall()
    assert len(rows) == 1
