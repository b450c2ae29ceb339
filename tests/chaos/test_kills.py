"""`kill -9` at any moment: nothing that was sent is without its line, and nothing that was written is gone."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import pytest

from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.simulator import Pace, Simulator, directive
from support.chaos import stored_calls
from support.chaos.call_plans import call_marker
from support.chaos.call_results import poll_until
from support.mcp_session import ProgressUpdate, connect, text_blocks
from support.server_database import Row, select_rows
from support.stdio_process import StdioProcess, stdio_process, tool_call

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.types import CallToolResult

    from support.chaos.chaos_size import ChaosSize

pytestmark = [
    pytest.mark.usefixtures("each_database"),
    pytest.mark.anyio,
]

AT_ONCE = 8
"""Servers that run at the same time, on one database, until each is killed."""
CALLS = 4
"""Calls in flight in each."""
LAG_S = 2.0
"""The journal is saved once a second; the rest is for a busy machine."""
OPEN_ENTRIES = "select id from entry where state = 'open'"


@dataclass
class Victim:
    """A server that will be killed: its calls, when each piece of their answers came, and when the end did."""

    first: int
    progress_texts: dict[int, list[tuple[float, str]]] = field(default_factory=dict[int, list[tuple[float, str]]])
    answered: dict[int, float] = field(default_factory=dict[int, float])
    spoke: anyio.Event = field(default_factory=anyio.Event)
    killed_at: float = 0.0

    async def listen(self, stdio: StdioProcess) -> None:
        """Take down what comes, to the last whole line."""
        pipe = cast("IO[bytes]", stdio.process.stdout)
        while (line := await anyio.to_thread.run_sync(pipe.readline)).endswith(b"\n"):
            message = json.loads(line)
            params = message.get("params", {})
            if message.get("method") == "notifications/progress" and params.get("message"):
                self.progress_texts.setdefault(params["progressToken"], []).append(
                    (time.monotonic(), params["message"])
                )
                self.spoke.set()
            elif "result" in message:
                self.answered[message["id"]] = time.monotonic()

    def text_until(self, number: int, *, until: float) -> str:
        """What the client had of an answer at a moment."""
        return "".join(piece for at, piece in self.progress_texts.get(number, []) if at <= until)


@pytest.mark.slow
async def test_after_a_kill_every_request_has_its_entry_and_the_journal_its_text(
    size: ChaosSize, tmp_path: Path
) -> None:
    chance = random.Random(size.seed)
    saved = left_open = 0
    for first in range(0, size.kills, AT_ONCE):
        victims = [Victim(first=CALLS * kill) for kill in range(min(AT_ONCE, size.kills - first))]
        data_dir = tmp_path / f"data-{first}"
        async with Simulator(pace=Pace(ttft_s=0.05, tokens_per_s=100)) as api:
            with anyio.fail_after(400):
                async with anyio.create_task_group() as tasks:
                    for n, victim in enumerate(victims):
                        moment = (n + chance.random()) / len(victims)  # some soon, some late
                        tasks.start_soon(live_and_die, victim, api.url, data_dir, moment, chance.randrange(2**32))
                await api.wait_until_idle()
            where = f"seed {size.seed}, kills from {first}"
            left_open += len(select_rows(data_dir, OPEN_ENTRIES))
            fields: dict[str, Any] = {"base_url": api.url, "log_level": "warning"}
            async with connect("memory", "auto", data_dir, **fields) as session:
                await session.client.call_tool("claude_jobs", {})
                assert not select_rows(data_dir, OPEN_ENTRIES), f"{where}: the dead were taken for living"
                wrong = [each for victim in victims for each in judge(victim, api, data_dir)]
                assert not wrong, f"{where}:\n" + "\n".join(wrong[:20])
                for row in list(stored_calls.journal_by_call(data_dir).values())[:5]:
                    read = text_blocks(await session.client.call_tool("claude_jobs", {"id": row["id"]}))
                    assert read[0] == (row["text"] or "(no text)"), where
                    assert row["end"] == "complete" or read[-1].startswith("INCOMPLETE: "), where
            held = select_rows(data_dir, "select sum(held) as held from budget")
            assert held in ([{"held": 0}], [{"held": None}]), where
            saved += sum(
                bool(victim.text_until(number, until=victim.killed_at - LAG_S))
                for victim in victims
                for number in range(victim.first, victim.first + CALLS)
            )
    assert left_open, "no kill came while a request was open"
    assert saved > size.kills // 8, "too few streams were old enough to say anything"


async def live_and_die(victim: Victim, url: str, data_dir: Path, moment: float, seed: int) -> None:
    """A server with calls in flight, until its moment: soon, or while it writes."""
    chance = random.Random(seed)
    fields: dict[str, Any] = {"base_url": url, "log_level": "warning", "budget_usd_per_day": 1_000}
    async with stdio_process(data_dir, real=True, **fields) as stdio, anyio.create_task_group() as tasks:
        await stdio.initialize()
        tasks.start_soon(victim.listen, stdio)
        for number in range(victim.first, victim.first + CALLS):
            keys: dict[str, Any] = {"tokens": chance.choice((40, 300, 900)), "think": 0}
            if chance.random() < 0.4:
                keys |= {"fault": chance.choice(("drop", "eof", "error")), "times": 2, "at": chance.randrange(600)}
            model = chance.choice(("haiku", "claude-haiku-4-5", "claude-sonnet-4-6"))
            await stdio.send(
                tool_call(number, f"{call_marker(number)} {directive(**keys)}", model=model, max_tokens=1_000)
            )
        if moment < 0.25:
            await anyio.sleep(4 * moment)
        else:
            await victim.spoke.wait()
            await anyio.sleep(5 * (moment - 0.25))
        victim.killed_at = time.monotonic()
        stdio.process.kill()


def judge(victim: Victim, api: Simulator, data_dir: Path) -> list[str]:
    """What was lost of one victim's calls."""
    wrong: list[str] = []
    requests, lines, journal = (
        stored_calls.requests_by_call(api.requests),
        stored_calls.ledger_by_call(data_dir),
        stored_calls.journal_by_call(data_dir),
    )
    for number in range(victim.first, victim.first + CALLS):
        records, rows, call_row = requests.get(number, []), lines.get(number, []), journal.get(number)
        found = [f"the line {row['id']} is open" for row in rows if row["state"] != "closed"]
        found += [f"{len(records)} requests, {len(rows)} lines"] if len(rows) < len(records) else []
        found += stored_calls.ledger_mismatches(rows, records)
        if call_row is not None:
            found += text_of(victim, number, call_row, api, records)
        elif records:
            found.append("nothing in the journal")
        wrong += [f"call {number}: {each}" for each in found]
    return wrong


def text_of(
    victim: Victim, number: int, call_row: Row, api: Simulator, records: list[stored_calls.LoggedRequest]
) -> list[str]:
    """The journal's text against what the client had received of it, and what the upstream would answer."""
    wrong: list[str] = []
    if call_row["state"] != "closed":
        wrong.append("the journal's record is open")
    if call_row["end"] == "complete" and number not in victim.answered and not call_row["text"]:
        wrong.append("complete, without text")
    text = victim.text_until(number, until=victim.killed_at - LAG_S)
    if not call_row["text"].startswith(text):
        wrong.append(f"{len(text)} characters had arrived {LAG_S} s before the kill, {len(call_row['text'])} kept")
    # An answer goes to the client while its last text is still on the way to the database.
    answered_before = victim.answered.get(number, victim.killed_at) <= victim.killed_at - LAG_S
    if answered_before and call_row["end"] != "complete" and not call_row["text"]:
        wrong.append(f"answered {LAG_S} s before the kill, and nothing kept")
    body = cast("Row", records[0].body) | {"max_tokens": 100_000} if records else {}
    complete = replace_lone_surrogates(api.answer_to(body)) if records else ""
    if not complete.startswith(call_row["text"]):
        wrong.append("what was kept is not what was said")
    return wrong


async def test_a_second_server_that_starts_during_a_stream_closes_nothing_of_the_first(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api:
        fields: dict[str, Any] = {"base_url": api.url, "log_level": "warning"}
        async with connect("memory", "auto", data_dir, **fields) as first, anyio.create_task_group() as tasks:
            text: list[ProgressUpdate] = []
            answers: list[CallToolResult] = []

            async def ask() -> None:
                answers.append(await first.ask(f"{call_marker(1)} {directive(fault='stall', at=90)}", updates=text))

            tasks.start_soon(ask)
            with anyio.fail_after(60):
                await poll_until(lambda: any(each.message for each in text))
                async with connect("memory", "auto", data_dir, **fields) as second:
                    await second.ask(f"{call_marker(2)} Something else.")
                    await second.client.call_tool("claude_jobs", {})
                    assert [row["state"] for row in stored_calls.ledger_by_call(data_dir)[1]] == ["open"]
                    call_id = stored_calls.journal_by_call(data_dir)[1]["id"]
                    read = text_blocks(await second.client.call_tool("claude_jobs", {"id": call_id}))
                    assert read[-1].startswith("INCOMPLETE: it is still being written.")
                assert not answers
                tasks.cancel_scope.cancel()
