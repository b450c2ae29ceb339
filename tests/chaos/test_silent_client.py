"""A client that stops reading harms no other, and loses nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude.simulator import Pace, Simulator, directive
from support.chaos import stored_calls
from support.chaos.call_plans import call_marker
from support.chaos.call_results import poll_until
from support.server_database import MissingDatabaseError, Row
from support.stdio_process import Message, stdio_process, tool_call

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.usefixtures("each_database"), pytest.mark.anyio, pytest.mark.slow]

CALLS = 6


async def test_upstreams_finish_and_entries_are_closed_while_a_client_does_not_read_and_then_everything_arrives(
    tmp_path: Path,
) -> None:
    keys: list[dict[str, Any]] = [{"fault": "huge"}, {"pace": 3_000}, {"fault": "drop", "times": 1}, {}, {}, {}]
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api,
        stdio_process(tmp_path / "data", base_url=api.url, log_level="warning") as stdio,
    ):
        await stdio.initialize()
        for number, chosen in enumerate(keys):
            prompt = f"{call_marker(number)} {directive(tokens=2_000, **chosen)}"
            await stdio.send(tool_call(number, prompt, model="claude-sonnet-4-6"))
        messages = len(stdio.received)
        with anyio.fail_after(50):
            await poll_until(lambda: sum(rows[-1]["end"] == "complete" for rows in lines(tmp_path).values()) == CALLS)
        await api.wait_until_idle()
        assert len(stdio.received) == messages, "nothing may have been read yet"
        ends = {
            number: [record.end for record in records]
            for number, records in stored_calls.requests_by_call(api.requests).items()
        }
        assert ends == {number: ["complete"] for number in range(CALLS)} | {2: ["fault:drop", "complete"]}
        for number in range(CALLS):
            result = cast("Message", (await stdio.read_response(number))["result"])
            first, *rest = stored_calls.requests_by_call(api.requests)[number]
            text = cast("list[dict[str, str]]", result["content"])[0]["text"]
            assert text == api.answer_to(cast("Row", first.body) | {"max_tokens": 100_000})
            assert text.startswith(text_of_progress(stdio.received, number))
            assert len(rest) == (number == 2)


def lines(directory: Path) -> dict[int, list[Row]]:
    try:
        return stored_calls.ledger_by_call(directory / "data")
    except MissingDatabaseError:  # not made yet
        return {}


def text_of_progress(messages: list[Message], token: int) -> str:
    """The progress of a call, joined."""
    params = [cast("Message", each["params"]) for each in messages if each.get("method") == "notifications/progress"]
    return "".join(str(each.get("message") or "") for each in params if each["progressToken"] == token)
