"""A replica that is killed for good in the middle of a job of 500 items, while 50 users read answers."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import httpx2
import pytest

from mcp_server_claude.simulator import Pace, Simulator, directive
from support.chaos import stored_calls
from support.chaos.call_plans import call_marker
from support.chaos.call_results import poll_until
from support.http_server import ServerSentEvent, event_text, read_events
from support.replicas import mcp_client, running_replicas
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path

    from support.replicas import Replicas, Row

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]

TIMEOUT_S = 480
ITEMS, USERS = 500, 50
ITEMS_BEFORE_THE_KILL = 150
BUDGET_USD = 25.0
POLL_INTERVAL_S = 0.5
"""Seconds between two looks into the database, each of which is a connection of its own."""


@dataclass
class ChatReader:
    """A user who asks once, and comes back as often as the connection is lost.

    The last second before a kill is not saved. A reader who had it gets the error `truncated`, and reads again from the
    start.
    """

    number: int
    name: str
    events: list[ServerSentEvent] = field(default_factory=list[ServerSentEvent])
    call: str = ""
    connections: int = 0

    @property
    def prompt(self) -> str:
        """The question, with an answer that would take minutes; the test lets its rest come at once after the kill."""
        return f"{call_marker(self.number)} {directive(tokens=400, pace=1, chars=4)}"

    @property
    def is_done(self) -> bool:
        return bool(self.events) and self.events[-1].name == "done"

    async def read_to_the_end(self, client: httpx2.AsyncClient) -> None:
        while not self.is_done:
            self.connections += 1
            with suppress(httpx2.HTTPError):  # the replica was killed, or the other one is not asked yet
                await self._read(client)

    async def _read(self, client: httpx2.AsyncClient) -> None:
        if self.call:
            headers = {"Last-Event-ID": self.events[-1].id} if self.events else {}
            request = client.stream("GET", f"/chat/{self.call}", headers=headers)
        else:
            request = client.stream("POST", "/chat", json={"message": self.prompt, "max_tokens": 2_000})
        async with request as response:
            if response.status_code == 502:  # of the proxy
                return
            if response.status_code == 400:
                await response.aread()
                assert response.json()["error"]["kind"] == "truncated", response.text
                self.events.clear()
                return
            assert response.status_code == 200, await response.aread()
            async for event in read_events(response):
                self.events.append(event)
                self.call = event.id.partition(":")[0] or self.call
        if any(event.name == "error" and event.json["kind"] == "truncated" for event in self.events):
            self.events.clear()


async def test_the_job_ends_readers_resume_the_budget_holds_and_the_ledger_is_that_of_the_upstream(
    postgres_url: str, tmp_path: Path
) -> None:
    readers = [ChatReader(number, f"user{number}") for number in range(USERS)]
    names = ["ada", *(reader.name for reader in readers)]
    async with (
        Simulator(pace=Pace(ttft_s=0.05, tokens_per_s=400)) as upstream,
        running_replicas(
            tmp_path,
            upstream.url,
            postgres_url,
            users=names,
            real=True,
            budget_usd_per_day=BUDGET_USD,
            max_concurrent_items=8,
            log_level="warning",
        ) as replicas,
    ):
        with anyio.fail_after(TIMEOUT_S):
            async with anyio.create_task_group() as tasks:
                for reader in readers:
                    tasks.start_soon(read_as_user, replicas, reader)
                await poll_until(lambda: all(event_text(reader.events) for reader in readers), POLL_INTERVAL_S)
                tasks.start_soon(ask_for_job, replicas)
                await poll_until(lambda: done_items(replicas) >= ITEMS_BEFORE_THE_KILL, POLL_INTERVAL_S)
                assert done_items(replicas) < ITEMS
                assert not any(reader.is_done for reader in readers)
                replicas.servers[0].kill()
                upstream.skip_delays()
                await poll_until(lambda: all(reader.is_done for reader in readers), POLL_INTERVAL_S)
                await poll_until(
                    lambda: replicas.rows("select state from job") == [{"state": "closed"}], POLL_INTERVAL_S
                )
            await upstream.wait_until_idle()
            await poll_until(lambda: not replicas.rows("select id from entry where state = 'open'"), POLL_INTERVAL_S)
        assert done_items(replicas) == ITEMS
        interrupted = int(replicas.rows("select sum(interruptions) as n from job_item")[0]["n"])
        assert 0 < interrupted <= 8
        check_answers(readers, replicas, upstream)
        check_ledger(replicas, upstream, interrupted)


async def ask_for_job(replicas: Replicas) -> None:
    """Start the job at the replica that will be killed; its client ends with it."""
    items = [f"[item {number}]" for number in range(ITEMS)]
    with suppress(Exception):
        async with mcp_client(replicas.direct(0)) as client:
            await client.call_tool(
                "claude_map", {"prompt": f"Name {{item}} {directive(tokens=20, ttft=0.3)}", "items": items}
            )


async def read_as_user(replicas: Replicas, reader: ChatReader) -> None:
    async with replicas.client(reader.name) as client:
        await reader.read_to_the_end(client)


def done_items(replicas: Replicas) -> int:
    return int(replicas.rows("select count(*) as n from job_item where state = 'done'")[0]["n"])


def open_jobs(replicas: Replicas) -> list[Row]:
    return replicas.rows("select id from job where state <> 'closed'")


def check_answers(readers: list[ChatReader], replicas: Replicas, upstream: Simulator) -> None:
    """Check what each user read, character by character."""
    requests = requests_of_users(upstream)
    interrupted = 0
    for reader in readers:
        (request,) = requests[reader.number]
        text = event_text(reader.events)
        call = reader.call
        assert {event.id.partition(":")[0] for event in reader.events if event.id} == {call}, reader.number
        saved = replicas.rows("select text from chunk where call_id = %s order by off", call)
        assert text.startswith("".join(row["text"] for row in saved)), reader.number
        assert request.text.startswith(text), f"{reader.number}: {text!r} is not the beginning of {request.text!r}"
        if reader.events[-1].json["complete"]:
            assert text == request.text, reader.number
        else:
            interrupted += 1
            assert [event.json["kind"] for event in reader.events if event.name == "error"] == ["interrupted"]
            assert reader.connections > 1
    assert interrupted, "no answer was cut by the kill"
    assert interrupted < len(readers), "the other replica lost answers too"


def requests_of_users(upstream: Simulator) -> dict[int, list[stored_calls.LoggedRequest]]:
    chats = [request for request in message_requests(upstream) if stored_calls.MARKER.search(str(request.body))]
    return stored_calls.requests_by_call(chats)


def check_ledger(replicas: Replicas, upstream: Simulator, interrupted_items: int) -> None:
    """Check each entry against the upstream's log of its request, and the budget against both."""
    requests = message_requests(upstream)
    rows = replicas.rows("select * from entry")
    by_request_id = {row["request_id"]: row for row in rows if row["request_id"]}
    unnamed = [row for row in rows if not row["request_id"]]
    assert len(by_request_id) + len(unnamed) == len(rows)
    assert {row["end"] for row in unnamed} <= {"interrupted"}
    unknown = [request for request in requests if request.request_id not in by_request_id]
    assert len(unknown) <= len(unnamed)
    wrong: list[str] = []
    for request in requests:
        if row := by_request_id.get(request.request_id):
            wrong += stored_calls.ledger_mismatches([row], [request])
    assert not wrong, "\n".join(wrong[:20])
    assert set(by_request_id) <= {request.request_id for request in requests}
    of_items = [row for row in rows if row["job_id"]]
    assert len([row for row in of_items if row["end"] == "complete"]) == ITEMS
    assert len(of_items) - ITEMS <= interrupted_items
    (budget,) = replicas.rows("select spent, held from budget where scope = 'total'")
    true_micros = sum(stored_calls.true_cost(request) for request in requests) * 1_000_000
    assert budget["held"] == 0
    assert true_micros - len(requests) <= budget["spent"] <= BUDGET_USD * 1_000_000
