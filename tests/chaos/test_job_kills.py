"""A job through random faults and `kill -9`: each item has one answer, and none that was saved is paid again."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude.simulator import Pace, Simulator, directive
from support.mcp_session import connect
from support.server_database import MissingDatabaseError, select_rows
from support.simulator_requests import message_requests
from support.stdio_process import Message, stdio_process

if TYPE_CHECKING:
    from pathlib import Path

    from support.chaos.chaos_size import ChaosSize

pytestmark = [
    pytest.mark.usefixtures("each_database"),
    pytest.mark.anyio,
    pytest.mark.slow,
]

ITEMS, KILLS = 1_000, 10
POLL_INTERVAL_S = 0.05
FAULTS = ("drop", "error", "status", "eof", "malformed")
DONE = "select seq from job_item where state = 'done'"


async def test_a_thousand_items_are_answered_once_each_through_faults_and_ten_kills(
    size: ChaosSize, tmp_path: Path
) -> None:
    chance = random.Random(size.seed)
    data_dir, project = tmp_path / "data", tmp_path / "project"
    project.mkdir()
    items = [f"[item {n}]{fault(chance)}" for n in range(ITEMS)]
    arguments: dict[str, Any] = {"prompt": "Name {item} [[sim: tokens=8]]", "items": items, "output": "out.jsonl"}
    fields: dict[str, Any] = {"log_level": "warning", "project_dir": str(project), "max_concurrent_items": 20}
    saved: list[tuple[set[int], int]] = []
    async with Simulator(pace=Pace(ttft_s=0.02, tokens_per_s=200)) as api:
        fields["base_url"] = api.url
        with anyio.fail_after(600):
            for kill in range(KILLS):
                async with stdio_process(data_dir, real=True, **fields) as stdio:
                    await stdio.initialize()
                    await stdio.send(map_call(kill, arguments))
                    enough = ITEMS * (kill + 0.5 + chance.random() / 2) / (KILLS + 2)
                    while len(done_items(data_dir)) < enough:  # noqa: ASYNC110 - another process sets no event
                        await anyio.sleep(POLL_INTERVAL_S)
                    stdio.process.kill()
                    stdio.process.wait()
                await api.wait_until_idle()
                saved.append((done_items(data_dir), len(message_requests(api))))
            async with connect("memory", "auto", data_dir, **fields) as session:
                result = await session.client.call_tool("claude_map", arguments)
            await api.wait_until_idle()
    where = f"seed {size.seed}"
    lines = [json.loads(line) for line in (project / "out.jsonl").read_text().splitlines()]
    assert [line["input"] for line in lines] == items, where
    assert {line["state"] for line in lines} == {"done"}, where
    requests = message_requests(api)
    prompts = [
        int(cast("re.Match[str]", re.search(r"\[item (\d+)\]", json.dumps(request.body)))[1]) for request in requests
    ]
    for done, before in saved:
        assert not done & set(prompts[before:]), f"{where}: an item that was saved was asked again"
    complete = Counter(number for number, request in zip(prompts, requests, strict=True) if request.end == "complete")
    assert set(complete) == set(range(ITEMS)), where
    job = cast("dict[str, Any]", result.meta)["mcp-server-claude/job"]
    assert sum(complete.values()) - ITEMS <= job["interruptions"], f"{where}: paid twice without a kill"
    entries = select_rows(data_dir, "select * from entry")
    by_request = {row["request_id"]: row for row in entries if row["request_id"]}
    for request in requests:
        row = by_request.get(request.request_id)
        if row is not None and row["end"] == "complete":
            assert (row["input_tokens"], row["output_tokens"]) == (request.input_tokens, request.output_tokens), where
    finished = {row["request_id"] for row in entries if row["end"] == "complete"}
    assert len(finished) == ITEMS, f"{where}: each item has one complete entry"
    lost = [request for request in requests if request.end == "complete" and request.request_id not in finished]
    assert len(lost) <= job["interruptions"], where
    assert len(entries) >= len(requests), where
    assert not select_rows(data_dir, "select 1 from entry where state = 'open'"), where


def map_call(identity: int, arguments: dict[str, Any]) -> Message:
    params: Message = {"name": "claude_map", "arguments": arguments}
    return {"jsonrpc": "2.0", "id": identity, "method": "tools/call", "params": params}


def fault(chance: random.Random) -> str:
    """A fault of the first request in one of five items."""
    if chance.random() > 0.2:
        return ""
    return f" {directive(fault=chance.choice(FAULTS), times=1)}"


def done_items(data_dir: Path) -> set[int]:
    """The numbers of the items whose answers are saved."""
    try:
        return {cast("int", row["seq"]) for row in select_rows(data_dir, DONE)}
    except MissingDatabaseError:  # the server has not created the tables yet
        return set()
