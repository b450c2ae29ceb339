from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anthropic import AsyncAnthropic

from mcp_server_claude.simulator import Pace, Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """The API, whose models think when they are asked: most of these tests are about everything else."""
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), default_thinking=False) as simulator:
        yield simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(api_key="any", base_url=simulator.url, max_retries=0) as client:
        yield client
