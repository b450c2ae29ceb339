"""`scripts/contract.py` with the simulator on both sides, and with an API that differs."""

from __future__ import annotations

import os
import subprocess
import sys

import anyio
import pytest

from mcp_server_claude.simulator import Pace, Simulator
from support.paths import REPOSITORY

pytestmark = pytest.mark.anyio

SCRIPT = REPOSITORY / "scripts" / "contract.py"
WITHOUT_KEY = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY"}


async def run_contract(*arguments: str) -> tuple[int, list[str]]:
    command = [sys.executable, str(SCRIPT), *arguments]
    done = await anyio.run_process(command, check=False, env=WITHOUT_KEY, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout.decode().splitlines()


async def test_without_a_key_the_simulator_is_compared_with_itself_and_nothing_differs() -> None:
    status, (skipped, *lines, total) = await run_contract()
    assert status == 0, lines
    assert skipped.startswith("Skipped: ANTHROPIC_API_KEY is not set.")
    assert {line.partition(":")[0] for line in lines} == {"same"}
    names = {line.partition(": ")[2] for line in lines}
    assert {"a count", "the list of models", "an upload", "a batch"} <= names
    assert total.startswith(f"0 of {len(lines)} requests differ")
    assert 40 <= len(lines) <= 45


async def test_an_api_that_differs_is_told_by_endpoint() -> None:
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), models="missing", default_thinking=False) as api:
        status, lines = await run_contract("--url", api.url)
    assert status == 1
    assert "different: the list of models" in lines
    assert "    status: the API has 404, the simulator 200" in lines
    assert "same: a batch" in lines


async def test_it_stops_at_its_dollar_limit() -> None:
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api:
        status, lines = await run_contract("--url", api.url, "--max-usd", "0.001")
        assert len(api.requests) == 1
    assert status == 1
    assert lines[-1].startswith("Stopped after $0.0")
