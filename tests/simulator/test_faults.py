"""Every fault, on the wire and as the SDK meets it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import httpx2
import pytest
from anthropic import APIConnectionError, APIStatusError, AsyncAnthropic, OverloadedError, RateLimitError

from mcp_server_claude.simulator import FAULT_NAMES, Pace, Simulator
from mcp_server_claude.simulator.json_body import as_object
from support.simulator_connection import (
    decode_chunked,
    message_request,
    parse_events,
    read_stream,
    simulator_connection,
)

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Json

pytestmark = pytest.mark.anyio
PROMPT = "Explain optimistic locking to a tired colleague"


def kinds(stream: bytes) -> list[Json]:
    return [event["type"] for event in parse_events(stream)]


async def sdk_text(client: AsyncAnthropic, prompt: str) -> tuple[str, str | None]:
    """What an application would have: the text until something was raised, and the stop reason."""
    text, reason = "", None
    stream = await client.messages.create(
        model="claude-sonnet-5-5", max_tokens=128_000, stream=True, messages=[{"role": "user", "content": prompt}]
    )
    async with stream:
        async for event in stream:
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                text += event.delta.text
            if event.type == "message_delta":
                reason = event.delta.stop_reason
    return text, reason


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 429, 500, 503, 504, 529])
async def test_a_status_fault_is_that_http_error(status: int, client: AsyncAnthropic, simulator: Simulator) -> None:
    with pytest.raises(APIStatusError) as raised:
        await sdk_text(client, f"{PROMPT} [[sim: status={status}]]")

    assert raised.value.status_code == status
    assert type(raised.value) is not APIStatusError
    assert raised.value.request_id == simulator.requests[0].request_id
    assert (simulator.requests[0].end, simulator.requests[0].status) == ("fault:status", status)


async def test_retry_headers_are_sent_as_requested(client: AsyncAnthropic) -> None:
    prompt = f"{PROMPT} [[sim: status=429 retry-after=2 retry-after-ms=1500 should-retry=false]]"
    with pytest.raises(RateLimitError) as raised:
        await sdk_text(client, prompt)

    sent = raised.value.response.headers
    assert [sent[name] for name in ("retry-after", "retry-after-ms", "x-should-retry")] == ["2", "1500", "false"]


async def test_the_default_status_is_529(client: AsyncAnthropic) -> None:
    with pytest.raises(OverloadedError):
        await sdk_text(client, f"{PROMPT} [[sim: fault=status]]")


async def test_a_spend_limit_is_identified_by_its_code_and_has_no_retry_after(client: AsyncAnthropic) -> None:
    with pytest.raises(RateLimitError) as raised:
        await sdk_text(client, f"{PROMPT} [[sim: fault=spend_limit]]")

    assert raised.value.error_code == "enforced_spend_limit_reached"
    assert "retry-after" not in raised.value.response.headers


async def test_an_error_event_follows_exactly_the_requested_characters(simulator: Simulator) -> None:
    stream = await read_stream(simulator, message_request(f"{PROMPT} [[sim: fault=error at=33]]"))

    events = parse_events(stream)
    assert as_object(events[-1]["error"])["type"] == "overloaded_error"
    assert events[-1]["request_id"] == simulator.requests[0].request_id
    assert simulator.requests[0].text == simulator.answer_to(message_request(PROMPT))[:33]
    assert simulator.requests[0].end == "fault:error"
    assert "message_delta" not in kinds(stream)


async def test_an_error_event_can_be_of_any_type_and_the_first_event(client: AsyncAnthropic) -> None:
    with pytest.raises(APIStatusError) as raised:
        await sdk_text(client, f"{PROMPT} [[sim: fault=error type=api_error at=headers]]")

    assert (raised.value.status_code, raised.value.type) == (200, "api_error")


async def test_at_0_is_before_any_visible_text(simulator: Simulator) -> None:
    stream = await read_stream(simulator, message_request(f"{PROMPT} [[sim: fault=eof at=0]]"))

    assert kinds(stream) == ["message_start", "content_block_start", "ping"]


async def test_by_default_a_fault_strikes_in_the_middle(simulator: Simulator) -> None:
    await read_stream(simulator, message_request(f"{PROMPT} [[sim: fault=eof]]"))

    complete = simulator.answer_to(message_request(PROMPT))
    assert simulator.requests[0].text == complete[: len(complete) // 2]


async def test_a_drop_is_a_reset(client: AsyncAnthropic, simulator: Simulator) -> None:
    with pytest.raises(httpx2.ReadError):
        await sdk_text(client, f"{PROMPT} [[sim: fault=drop at=20]]")

    assert (simulator.requests[0].end, len(simulator.requests[0].text)) == ("fault:drop", 20)


async def test_a_fin_is_an_end_within_a_chunk(client: AsyncAnthropic, simulator: Simulator) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await sdk_text(client, f"{PROMPT} [[sim: fault=fin at=20]]")

    assert (simulator.requests[0].end, len(simulator.requests[0].text)) == ("fault:fin", 20)


@pytest.mark.parametrize("fault", ["drop", "fin"])
async def test_a_socket_can_be_closed_before_the_head(fault: str, client: AsyncAnthropic, simulator: Simulator) -> None:
    with pytest.raises(APIConnectionError):
        await sdk_text(client, f"{PROMPT} [[sim: fault={fault} at=headers]]")

    assert (simulator.requests[0].end, simulator.requests[0].status) == (f"fault:{fault}", None)


async def test_an_early_eof_raises_nothing_and_has_no_stop_reason(client: AsyncAnthropic) -> None:
    text, reason = await sdk_text(client, f"{PROMPT} [[sim: fault=eof at=20]]")

    assert (len(text), reason) == (20, None)


async def test_nostop_lacks_only_message_stop_and_counts_as_complete(simulator: Simulator) -> None:
    stream = await read_stream(simulator, message_request(f"{PROMPT} [[sim: fault=nostop]]"))

    assert kinds(stream)[-1] == "message_delta"
    assert (simulator.requests[0].end, simulator.requests[0].fault) == ("complete", "nostop")


@pytest.mark.parametrize(
    ("fault", "error"), [("malformed", json.JSONDecodeError), ("badutf8", UnicodeDecodeError), ("badindex", IndexError)]
)
async def test_a_malformed_event_breaks_the_stream_of_the_sdk(
    fault: str, error: type[Exception], client: AsyncAnthropic, simulator: Simulator
) -> None:
    with pytest.raises(error):
        async with client.messages.stream(
            model="claude-sonnet-5-5",
            max_tokens=4000,
            messages=[{"role": "user", "content": f"{PROMPT} [[sim: fault={fault}]]"}],
        ) as stream:
            await stream.until_done()
    await simulator.wait_until_idle()

    assert simulator.requests[0].end == f"fault:{fault}"


@pytest.mark.parametrize("place", ["headers", "0", "30"])
async def test_a_stall_is_silent_until_the_client_leaves(place: str, simulator: Simulator) -> None:
    async with simulator_connection(simulator) as line:
        line.send(message_request(f"{PROMPT} [[sim: fault=stall at={place} chars=30]]"))
        if place == "headers":
            await simulator.wait_for_requests(1)
        else:
            await line.read_until(b'"ping"' if place == "0" else b"text_delta")
        assert simulator.requests[0].end == "open"
    await simulator.wait_until_idle()

    assert (simulator.requests[0].end, simulator.requests[0].fault) == ("disconnected", "stall")
    assert simulator.requests[0].ended_at is not None
    assert len(simulator.requests[0].text) == (30 if place == "30" else 0)


async def test_a_stall_can_keep_pinging(simulator: Simulator) -> None:
    async with simulator_connection(simulator) as line:
        line.send(message_request(f"{PROMPT} [[sim: fault=stall at=0 pings=on ping=0.01]]"))
        for _ in range(4):
            await line.read_until(b'{"type": "ping"}')


async def test_noevents_sends_nothing_but_comments(simulator: Simulator) -> None:
    async with simulator_connection(simulator) as line:
        line.send(message_request(f"{PROMPT} [[sim: fault=noevents ping=0.01]]"))
        await line.read_until(b"\r\n\r\n")
        comments = [await line.read_until(b"\n\n\r\n") for _ in range(3)]
    await simulator.wait_until_idle()

    assert {decode_chunked(comment) for comment in comments} == {b": keep-alive\n\n"}
    assert simulator.requests[0].end == "disconnected"


@pytest.mark.parametrize(
    ("fault", "kind", "begins"),
    [("html", "text/html; charset=utf-8", b"<!doctype"), ("json", "application/json", b"{"), ("empty", "", b"")],
)
async def test_a_stream_can_be_replaced_by_another_response(
    fault: str, kind: str, begins: bytes, simulator: Simulator
) -> None:
    async with simulator_connection(simulator) as line:
        line.send(message_request(f"{PROMPT} [[sim: fault={fault}]]"))
        status, headers, body = await line.read_response()

    assert status == 200
    assert headers["content-type"].startswith(kind)
    assert body.startswith(begins)
    assert bool(body) == bool(begins)
    assert simulator.requests[0].end == f"fault:{fault}"


async def test_a_redirect_leads_to_a_page(simulator: Simulator) -> None:
    async with simulator_connection(simulator) as line:
        line.send(message_request(f"{PROMPT} [[sim: fault=redirect]]"))
        status, headers, _ = await line.read_response()
        line.get(headers["location"])
        _, page, _ = await line.read_response()

    assert status == 302
    assert page["content-type"].startswith("text/html")
    assert len(simulator.requests) == 1


async def test_a_huge_answer_is_one_event_of_5_mb(simulator: Simulator) -> None:
    prompt = f"{PROMPT} [[sim: fault=huge]]"
    deltas = [
        event for event in parse_events(await read_stream(simulator, message_request(prompt))) if "delta" in event
    ]

    assert [len(str(as_object(event["delta"]).get("text", ""))) for event in deltas] == [5_000_000, 0]
    assert simulator.requests[0].text == simulator.answer_to(message_request(prompt))


async def test_a_tiny_answer_is_10_000_events(client: AsyncAnthropic, simulator: Simulator) -> None:
    prompt = f"{PROMPT} [[sim: fault=tiny]]"

    assert (await sdk_text(client, prompt)) == (
        simulator.answer_to(message_request(prompt, max_tokens=128_000)),
        "end_turn",
    )
    assert len(simulator.requests[0].text_deltas) == 10_000


async def test_a_gzipped_stream_reads_like_any_other(client: AsyncAnthropic, simulator: Simulator) -> None:
    text = await sdk_text(client, f"{PROMPT} [[sim: fault=gzip]]")

    assert text == (simulator.answer_to(message_request(PROMPT)), "end_turn")
    assert (simulator.requests[0].end, simulator.requests[0].fault) == ("complete", "gzip")


@pytest.mark.parametrize("fault", ["status", "error", "drop", "fin", "eof", "malformed", "html", "spend_limit"])
async def test_after_its_times_a_fault_is_over(fault: str, client: AsyncAnthropic, simulator: Simulator) -> None:
    prompt = f"{PROMPT} [[sim: fault={fault} times=2]]"
    for _ in range(2):
        try:
            assert (await sdk_text(client, prompt))[1] is None
        except (APIStatusError, httpx2.TransportError, ValueError):
            await simulator.wait_until_idle()

    assert await sdk_text(client, prompt) == (simulator.answer_to(message_request(PROMPT)), "end_turn")
    assert [record.fault for record in simulator.requests] == [fault, fault, None]


async def test_times_are_counted_by_conversation(client: AsyncAnthropic, simulator: Simulator) -> None:
    for prompt in ("One", "Two", "One", "Two"):
        await sdk_text(client, f"{prompt} [[sim: fault=eof times=1]]")

    assert [record.fault for record in simulator.requests] == ["eof", "eof", None, None]


async def test_a_continuation_belongs_to_the_conversation_it_continues(simulator: Simulator) -> None:
    prompt = f"{PROMPT} [[sim: fault=eof at=50 times=1]]"
    await read_stream(simulator, message_request(prompt))
    partial = simulator.requests[0].text
    body = message_request(prompt)
    body["messages"] = [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": partial},
        {"role": "user", "content": "You were interrupted. Go on."},
    ]
    await read_stream(simulator, body)

    assert simulator.requests[1].end == "complete"
    assert partial + simulator.requests[1].text == simulator.answer_to(message_request(PROMPT))


@pytest.mark.parametrize("fault", [fault for fault in FAULT_NAMES if fault not in {"stall", "noevents"}])
async def test_every_fault_affects_requests_that_do_not_stream(fault: str, simulator: Simulator) -> None:
    async with simulator_connection(simulator) as line:
        line.send(message_request(f"{PROMPT} [[sim: fault={fault}]]", stream=False))
        line.writer.write(b"GET /v1/none HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        try:
            await line.reader.read()
        except ConnectionResetError:
            assert fault == "drop"
    await simulator.wait_until_idle()

    assert simulator.requests[0].end in {f"fault:{fault}", "complete"}


async def test_chance_selects_the_same_requests_for_the_same_seed() -> None:
    async def faults_of_seed(seed: int) -> list[str | None]:
        async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), fault_rate=0.8, seed=seed) as simulator:
            for number in range(20):
                async with simulator_connection(simulator) as line:
                    line.send(message_request(f"Question {number}"))
                    try:
                        while await line.reader.read(65536):
                            if simulator.requests and simulator.requests[-1].end != "open":
                                break
                    except ConnectionResetError:
                        continue
            return [record.fault for record in simulator.requests]

    first = await faults_of_seed(1)

    assert first == await faults_of_seed(1)
    assert first != await faults_of_seed(2)
    assert None in first
    assert len({*first}) > 2


async def test_defaults_hold_unless_a_prompt_overrides_them() -> None:
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), defaults="think=0 tokens=9 fault=nostop") as simulator:
        await read_stream(simulator, message_request(PROMPT))
        await read_stream(simulator, message_request(f"{PROMPT} [[sim: tokens=5]]"))

    assert [(record.output_tokens, record.fault) for record in simulator.requests] == [(9, "nostop"), (5, "nostop")]


async def test_closing_the_simulator_ends_running_requests() -> None:
    async with Simulator() as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(simulator.url.rpartition(":")[2]))
        raw = json.dumps(message_request(f"{PROMPT} [[sim: fault=stall at=headers]]")).encode()
        writer.write(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nanthropic-version: 2026-10-21\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(raw), raw))
        await simulator.wait_for_requests(1)

    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
