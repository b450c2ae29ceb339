"""What the simulator remembers, and how it is asked for it."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from mcp_server_claude.simulator import Pace, Simulator
from support.simulator_connection import HEADERS, message_request, read_stream, simulator_connection

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Object

pytestmark = pytest.mark.anyio
PROMPT = "Explain optimistic locking to a tired colleague"
SERVE = """
import asyncio
from mcp_server_claude.simulator import Simulator, run_until_signal
asyncio.run(run_until_signal(Simulator(), announce=lambda url: print(url, flush=True)))
print("bye")
"""


async def test_a_finished_request_is_recorded_completely(simulator: Simulator) -> None:
    await read_stream(
        simulator, message_request(PROMPT), HEADERS | {"user-agent": "tests/1", "anthropic-beta": "one,two"}
    )

    record = simulator.requests[0]
    assert (record.sequence, record.method, record.path, record.status) == (1, "POST", "/v1/messages", 200)
    assert record.headers == {
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "one,two",
        "user-agent": "tests/1",
    }
    assert (record.body, record.credential_header) == (message_request(PROMPT), "bearer")
    assert (record.end, record.stop_reason) == ("complete", "end_turn")
    assert record.first_byte_at is not None
    assert record.ended_at is not None
    assert record.arrived_at <= record.first_byte_at <= record.ended_at


@pytest.mark.parametrize("keys", ["ttft=600", "pace=0.001", "pace=0.001 ping=600", "fault=stall at=headers"])
async def test_a_client_that_disconnects_is_noticed_in_every_wait(keys: str, simulator: Simulator) -> None:
    async with simulator_connection(simulator) as line:
        line.send(message_request(f"{PROMPT} [[sim: {keys}]]"))
        await simulator.wait_for_requests(1)
        if "pace" in keys:
            await line.read_until(b'"ping"')
        assert simulator.requests[0].end == "open"
    await simulator.wait_until_idle()

    assert simulator.requests[0].end == "disconnected"
    assert simulator.requests[0].ended_at is not None
    assert simulator.requests[0].stop_reason is None


async def test_a_released_answer_is_sent_at_once_and_the_next_at_its_pace(simulator: Simulator) -> None:
    slowly = message_request(f"{PROMPT} [[sim: pace=0.001 tokens=90]]")
    async with simulator_connection(simulator) as line, simulator_connection(simulator) as other:
        line.send(slowly)
        await line.read_until(b'"ping"')
        simulator.skip_delays()
        await line.read_until(b'"message_stop"')
        other.send(slowly)
        await other.read_until(b'"ping"')
        assert simulator.requests[0].output_tokens == 90
        assert simulator.requests[1].output_tokens < 10


async def test_a_client_that_does_not_read_delays_only_its_own_answer(simulator: Simulator) -> None:
    async with simulator_connection(simulator) as deaf:
        deaf.send(message_request(f"{PROMPT} [[sim: tokens=100000 chars=2]]", max_tokens=128_000))
        await simulator.wait_for_requests(1)
        await read_stream(simulator, message_request(PROMPT))
        assert simulator.requests[1].end == "complete"
        deaf.writer.transport.abort()
    await simulator.wait_until_idle()

    assert simulator.requests[0].end == "disconnected"
    assert simulator.requests[0].output_tokens < 100_000


async def test_requests_are_listed_and_forgotten_over_http(simulator: Simulator) -> None:
    await read_stream(simulator, message_request(PROMPT))
    async with simulator_connection(simulator) as line:
        line.get("/_simulator/requests")
        _, _, raw = await line.read_response()
        listed: list[Object] = json.loads(raw)
        line.send(b"", path="/_simulator/reset")
        await line.read_response()

    assert [record["text"] for record in listed] == [simulator.answer_to(message_request(PROMPT))]
    assert listed[0]["request_id"]
    assert simulator.requests == []


async def test_one_connection_serves_many_requests(simulator: Simulator) -> None:
    async with simulator_connection(simulator) as line:
        for _ in range(3):
            line.send(message_request(PROMPT))
        for _ in range(3):
            await line.read_until(b"\r\n0\r\n\r\n")

    assert [record.end for record in simulator.requests] == ["complete"] * 3
    assert len({record.request_id for record in simulator.requests}) == 3


async def test_responses_carry_the_apis_headers(simulator: Simulator) -> None:
    async with simulator_connection(simulator) as line:
        line.send(message_request(PROMPT))
        head = (await line.read_until(b"\r\n\r\n")).decode()

    assert "content-type: text/event-stream; charset=utf-8" in head
    assert f"request-id: {simulator.requests[0].request_id}" in head
    assert "anthropic-organization-id: " in head
    for name in ("requests", "tokens", "input-tokens", "output-tokens"):
        for part in ("limit", "remaining", "reset"):
            assert f"anthropic-ratelimit-{name}-{part}: " in head


@pytest.mark.parametrize("single", [True, False])
async def test_events_can_be_written_one_by_one(*, single: bool) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), one_event_per_write=single) as simulator,
        simulator_connection(simulator) as line,
    ):
        line.send(message_request(PROMPT))
        await line.read_until(b"\r\n\r\n")
        chunk = await line.read_until(b"\n\n\r\n")

    assert (chunk.count(b"event: ") == 1) == single


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serve_runs_until_a_signal(number: signal.Signals) -> None:
    async with await anyio.open_process([sys.executable, "-c", SERVE]) as process:
        assert process.stdout
        assert (await process.stdout.receive()).startswith(b"http://127.0.0.1:")
        process.send_signal(number)
        assert b"".join([part async for part in process.stdout]).strip() == b"bye"
        assert await process.wait() == 0
