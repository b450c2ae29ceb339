from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
import pytest

from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.anthropic_api.models import StaticModelList
from mcp_server_claude.call_types import Call
from mcp_server_claude.engine.call_deadline import CallDeadline
from mcp_server_claude.engine.engine import Engine, LedgerWriter
from mcp_server_claude.errors import CallError, TemporaryError
from mcp_server_claude.files import FilePolicy
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import Pace, Simulator
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from mcp_server_claude.call_types import CallEvent

pytestmark = pytest.mark.anyio


def ignore(event: CallEvent) -> None:
    del event


@dataclass(frozen=True)
class Parts:
    """The services of a server, and an engine of their own for its internal steps."""

    services: Services
    engine: Engine


@asynccontextmanager
async def open_parts(upstream: Simulator, data_dir: Path, **fields: object) -> AsyncGenerator[Parts]:
    values = {"api_key": "test-key-0000", "base_url": upstream.url, "data_dir": data_dir, "max_concurrent": 1} | fields
    settings = Settings.model_validate(values)
    claude = ClaudeClient(settings)
    models = StaticModelList(claude.get_client, claude.platform_model_id, claude.platform.unsupported_for)
    async with Services.lifespan(settings) as services:
        await services.open()
        engine = Engine(settings, claude, models, LedgerWriter(services.store), FilePolicy(roots=()))
        yield Parts(services, engine)
        await claude.close()


async def test_a_block_is_cancelled_when_the_deadline_passes() -> None:
    deadline = CallDeadline(0.01)
    with anyio.fail_after(30), pytest.raises(TemporaryError) as raised, deadline.enforce():
        await anyio.sleep_forever()
    assert raised.value.kind == "deadline"
    assert deadline.remaining_s() == 0


async def test_an_error_of_the_block_is_raised_as_it_is() -> None:
    with pytest.raises(LookupError), CallDeadline(60).enforce():
        raise LookupError


async def test_the_deadline_begins_with_the_admission_and_an_expired_call_sends_nothing(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with open_parts(upstream, tmp_path / "data") as parts:
        prepared = await parts.engine.prepare_call(Call(prompt="Tea?"), ignore)
        assert prepared.deadline.elapsed_s() > 0
        expired = replace(prepared, deadline=CallDeadline(0))
        with pytest.raises(CallError) as raised:
            await parts.engine.run_call(expired, ignore)
    assert raised.value.kind == "deadline"
    assert message_requests(upstream) == []


async def test_a_slow_count_ends_with_the_deadline_and_sends_nothing(tmp_path: Path) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), max_count_delay_s=3600) as upstream,
        open_parts(upstream, tmp_path / "data", budget_usd_per_day=10) as parts,
    ):
        prepared = await parts.engine.prepare_call(Call(prompt="Tea?"), ignore)
        with anyio.fail_after(60), pytest.raises(CallError) as raised:
            await parts.engine.run_call(replace(prepared, deadline=CallDeadline(0.1)), ignore)
        assert message_requests(upstream) == []
    assert raised.value.kind == "deadline"


async def test_a_call_that_waits_for_its_thread_ends_with_its_own_deadline(upstream: Simulator, tmp_path: Path) -> None:
    async with open_parts(upstream, tmp_path / "data") as parts:
        threads = parts.services.threads
        prepared = await parts.engine.prepare_call(Call(prompt="Tea?", thread="t_1"), ignore)
        held, release = anyio.Event(), anyio.Event()

        async def hold() -> None:
            async with threads.exclusive_access(prepared, ignore):
                held.set()
                await release.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            await held.wait()
            with pytest.raises(CallError) as raised:
                async with threads.exclusive_access(replace(prepared, deadline=CallDeadline(0)), ignore):
                    pass
            assert raised.value.kind == "deadline"
            release.set()
        async with threads.exclusive_access(prepared, ignore):
            pass
