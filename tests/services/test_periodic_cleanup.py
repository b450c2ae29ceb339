"""Retention: what has expired is deleted, by one of the servers that share a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.services.periodic_cleanup import MIN_CLEANUP_INTERVAL_S, delete_expired
from mcp_server_claude.settings import Settings
from support.mcp_session import FAKE_KEY
from support.server_database import change_rows, database_fields, select_rows

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.simulator import Simulator

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_database")]

OLD_THREAD = """
insert into thread (id, "user", head, system, model, started_at, touched_at, worker)
values ('t_1', 'local', '', '', '', 1, 1, '')
"""


async def clean_up(services: ServiceAccess) -> bool:
    return await delete_expired(services.settings, services.store, services.output_files)


def thread_ids(data_dir: Path) -> list[str]:
    return [row["id"] for row in select_rows(data_dir, "select id from thread")]


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
