"""Retention: what has expired is deleted, by one of the servers that share a database."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import pytest

from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.services.periodic_cleanup import CLEANUP_INTERVAL_S, MIN_CLEANUP_INTERVAL_S, delete_expired
from mcp_server_claude.settings import Settings
from support.mcp_session import FAKE_KEY
from support.server_database import change_rows, database_fields, select_rows

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.simulator import Simulator

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_database")]

PATIENCE_S = 600.0
"""Seconds after which a test that hangs fails; how busy the machine is proves nothing."""
OLD_THREAD = """
insert into thread (id, "user", head, system, model, started_at, touched_at, worker)
values ('t_1', 'local', '', '', '', 1, 1, '')
"""


async def clean_up(services: ServiceAccess) -> bool:
    return await delete_expired(services.settings, services.store, services.output_files)


def thread_ids(data_dir: Path) -> list[str]:
    return [row["id"] for row in select_rows(data_dir, "select id from thread")]


async def test_a_clock_that_is_years_ahead_deletes_no_text_before_it_can_be_set(
    upstream: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data_dir = tmp_path / "data"
    fields: dict[str, object] = {"api_key": FAKE_KEY, "base_url": upstream.url, "data_dir": data_dir}
    settings = Settings.model_validate(fields | database_fields(data_dir))
    async with Services.lifespan(settings) as services:
        await services.open()
        await clean_up(services)  # after that of its start, which on PostgreSQL it leaves alone
        with anyio.fail_after(PATIENCE_S):
            while not select_rows(data_dir, "select name from periodic_run where name = 'clock'"):  # noqa: ASYNC110 - a thread writes it
                await anyio.sleep(0.01)
        await services.close_orphans()  # the store writes in order
        change_rows(data_dir, OLD_THREAD)
        # As if the clock had gone three years forward since, a day after a thread was used.
        years_ago = time.time() - 3 * 365 * 86_400
        change_rows(data_dir, OLD_THREAD.replace("'t_1'", "'t_2'").replace("1, 1", f"1, {years_ago - 86_400}"))
        change_rows(data_dir, f"update periodic_run set started_at = {years_ago}")  # noqa: S608 - a number
        assert await clean_up(services)
        await services.close_orphans()  # the store writes in order
        assert thread_ids(data_dir) == ["t_2"]
        assert caplog.text.count("The clock is 1095 days ahead of the last time that this store was used.") == 1
        # Three days later.
        change_rows(data_dir, f"update periodic_run set started_at = started_at - {3 * 86_400 + 60}")  # noqa: S608
        assert await clean_up(services)
        await services.close_orphans()
        assert thread_ids(data_dir) == []


async def test_the_time_between_two_cleanups_is_no_jump_of_the_clock(
    upstream: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data_dir = tmp_path / "data"
    fields = {"api_key": FAKE_KEY, "base_url": upstream.url, "data_dir": data_dir, "retention_days": 0}
    settings = Settings.model_validate(fields | database_fields(data_dir))
    async with Services.lifespan(settings) as services:
        await services.open()
        await clean_up(services)  # after that of its start, which on PostgreSQL it leaves alone
        await services.close_orphans()  # the store writes in order
        change_rows(data_dir, f"update periodic_run set started_at = started_at - {CLEANUP_INTERVAL_S + 60}")  # noqa: S608 - a constant
        assert await clean_up(services)
        await services.close_orphans()
    assert select_rows(data_dir, "select name from periodic_run where name = 'clock'")
    assert not select_rows(data_dir, "select name from periodic_run where name = 'clock_jump'")
    assert "The clock is" not in caplog.text


async def test_of_two_servers_on_one_database_one_deletes_what_has_expired(upstream: Simulator, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    fields: dict[str, object] = {"api_key": FAKE_KEY, "base_url": upstream.url, "data_dir": data_dir}
    settings = Settings.model_validate(fields | database_fields(data_dir))
    async with Services.lifespan(settings) as one, Services.lifespan(settings) as two:
        for services in (one, two):
            await services.open()
            await clean_up(services)  # after that of its start
        change_rows(data_dir, OLD_THREAD)
        if one.store.is_shared:
            assert not await clean_up(one)
            assert not await clean_up(two)
            assert thread_ids(data_dir) == ["t_1"]
            later = f"update periodic_run set started_at = started_at - {MIN_CLEANUP_INTERVAL_S + 60}"  # noqa: S608 - a constant
            change_rows(data_dir, later)
            assert await clean_up(two)
            assert not await clean_up(one)
        else:
            assert await clean_up(two)
        await two.close_orphans()  # the store writes in order
        assert thread_ids(data_dir) == []
