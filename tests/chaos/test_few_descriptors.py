"""A process that may open no more files: a call fails with its account, and the next one is answered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from mcp_server_claude.simulator import Pace, Simulator, directive
from support.chaos import stored_calls
from support.chaos.call_plans import call_marker
from support.mcp_session import FAILURE_META, USAGE_META
from support.stdio_process import Message, stdio_process, tool_call

if TYPE_CHECKING:
    from support.stdio_process import StdioProcess

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits the descriptors of another process as Linux does"),
]


def limit_descriptors(stdio: StdioProcess, count: int) -> None:
    import resource

    _, hard = resource.prlimit(stdio.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(stdio.process.pid, resource.RLIMIT_NOFILE, (count, hard))


def first_free_descriptor(stdio: StdioProcess) -> int:
    taken = {int(each.name) for each in Path(f"/proc/{stdio.process.pid}/fd").iterdir()}
    return min(set(range(len(taken) + 1)) - taken)


async def ask(stdio: StdioProcess, number: int, **keys: Any) -> Message:
    await stdio.send(tool_call(number, f"{call_marker(number)} {directive(**keys)}", model="claude-haiku-4-5"))
    return cast("Message", (await stdio.read_response(number))["result"])


async def test_without_free_descriptors_a_call_fails_with_its_usage_and_the_next_one_succeeds(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / "data"
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api,
        stdio_process(data_dir, real=True, base_url=api.url, max_retries=0) as stdio,
    ):
        await stdio.initialize()
        assert not (await ask(stdio, 1)).get("isError")
        await ask(stdio, 2, fault="drop", at="headers")  # so that the next request needs a connection
        limit_descriptors(stdio, first_free_descriptor(stdio))
        failed = await ask(stdio, 3)
        limit_descriptors(stdio, 1024)
        assert not (await ask(stdio, 4)).get("isError")
        stdio.close_stdin()
        assert await stdio.wait_for_exit() == 0
    meta = cast("dict[str, dict[str, str]]", failed["_meta"])
    (block,) = cast("list[dict[str, str]]", failed["content"])
    assert failed["isError"]
    assert meta[FAILURE_META]["kind"] in {"connection", "connection_refused", "internal"}
    assert meta[USAGE_META]["call_id"] in block["text"]
    assert stored_calls.journal_by_call(data_dir)[3]["end"] == "failed"
    assert [row["end"] for row in stored_calls.ledger_by_call(data_dir)[3]] == ["failed"]
    assert "Traceback" not in stdio.stderr.read_text()
