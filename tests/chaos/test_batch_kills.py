"""Batches through `kill -9`: each item is answered and paid once, and what nobody knows is found again."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude.simulator import Pace, Simulator
from support.chaos import stored_calls
from support.mcp_session import connect
from support.stdio_process import Message, stdio_process

if TYPE_CHECKING:
    from pathlib import Path

    from support.chaos.chaos_size import ChaosSize

pytestmark = [
    pytest.mark.usefixtures("each_database"),
    pytest.mark.anyio,
    pytest.mark.slow,
]

JOBS, ITEMS_PER_JOB, KILLS = 100, 3, 3
POLL_INTERVAL_S = 0.05


async def test_a_hundred_batches_over_three_kills_are_answered_and_paid_once(size: ChaosSize, tmp_path: Path) -> None:
    chance = random.Random(size.seed)
    data_dir = tmp_path / "data"
    cut = chance.randrange(JOBS // 4, JOBS // 2)
    sent = [range(cut), range(cut, JOBS), range(0)]
    project = tmp_path / "project"
    project.mkdir()
    fields: dict[str, Any] = {"log_level": "warning", "budget_usd_per_day": 500.0, "detach_after_s": 0.01}
    fields["project_dir"] = str(project)
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), batch_duration_s=None) as api:
        fields["base_url"] = api.url
        with anyio.fail_after(3600):
            for kill in range(KILLS):
                async with stdio_process(data_dir, real=True, **fields) as wire:
                    await wire.initialize()
                    for number in sent[kill]:
                        await wire.send(map_call(number))
                        await wire.read_response(1000 + number)
                    # The first kill comes while batches are submitted, the others while they are collected.
                    enough = kill * JOBS * ITEMS_PER_JOB * (0.5 + chance.random() / 2) / KILLS
                    while done_items(data_dir) < enough:  # another process sets no event
                        api.process_batches(20)
                        await anyio.sleep(POLL_INTERVAL_S)
                    wire.process.kill()
                    wire.process.wait()
                await api.wait_until_idle()
            async with connect("memory", "auto", data_dir, **fields) as desk:
                while stored_calls.select_rows(data_dir, "select 1 from job where state <> 'closed'"):
                    api.process_batches()
                    await desk.client.call_tool("claude_jobs", {})
                    await anyio.sleep(POLL_INTERVAL_S)
    where = f"seed {size.seed}"
    asked = Counter(str(item.custom_id).rpartition("-")[0] for item in api.batch_items)
    items = stored_calls.select_rows(data_dir, "select job_id, seq, state, text, attempts from job_item")
    assert len(items) == JOBS * ITEMS_PER_JOB, where
    assert {row["state"] for row in items} == {"done"}, where
    assert asked == Counter(f"{row['job_id']}-{row['seq']}" for row in items), f"{where}: sent twice, or not at all"
    texts = Counter(item.text for item in api.batch_items)
    assert Counter(cast("str", row["text"]) for row in items) == texts, f"{where}: an answer is lost or doubled"
    entries = stored_calls.select_rows(data_dir, "select * from entry")
    assert Counter((row["end"], row["input_tokens"], row["output_tokens"]) for row in entries) == Counter(
        ("complete", item.input_tokens, item.output_tokens) for item in api.batch_items
    ), f"{where}: the ledger differs from what the API has answered"
    billed = sum(round(float(row.usd or 0) * 1e6) for row in api.bill())
    (budget,) = stored_calls.select_rows(data_dir, "select spent, held from budget where scope = 'total'")
    assert budget["held"] == 0, where
    assert budget["spent"] == sum(cast("int", row["cost_micros"]) for row in entries), where
    assert abs(cast("int", budget["spent"]) - billed) <= len(entries), where


def map_call(number: int) -> Message:
    items = [f"job {number}, item {n}" for n in range(ITEMS_PER_JOB)]
    arguments: dict[str, Any] = {"prompt": "Name {item} [[sim: tokens=8]]", "items": items, "batch": True}
    params: Message = {"name": "claude_map", "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 1000 + number, "method": "tools/call", "params": params}


def done_items(data_dir: Path) -> int:
    """The number of items whose answers are saved."""
    return len(stored_calls.select_rows(data_dir, "select 1 from job_item where state = 'done'"))
