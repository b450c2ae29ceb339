"""Message batches as the server uses them, through the SDK, against the simulator and against wrong responses."""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from mcp_server_claude.anthropic_api import message_batches
from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.anthropic_api.message_batches import BatchRequest, BatchResult
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.errors import CallError, RequestError, TemporaryError
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import Pace, Simulator, directive
from support.cloud_upstream import CannedResponse, cloud_upstream
from support.mcp_session import FAKE_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

pytestmark = pytest.mark.anyio
JSON = "application/json"
MODEL = "claude-opus-5-5"
CREATED = {
    "id": "msgbatch_01",
    "type": "message_batch",
    "processing_status": "ended",
    "request_counts": {"processing": 0, "succeeded": 2, "errored": 1, "canceled": 0, "expired": 0},
    "created_at": "2026-11-20T09:30:00Z",
    "results_url": "https://elsewhere.example/results",
}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """The API with batches that are in progress until the test processes them."""
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), batch_duration_s=None) as simulator:
        yield simulator


@asynccontextmanager
async def client_of(url: str, **fields: Any) -> AsyncGenerator[ClaudeClient]:
    claude = ClaudeClient(Settings(api_key=SecretStr(FAKE_KEY), base_url=url, **fields))
    try:
        yield claude
    finally:
        await claude.close()


def request(custom_id: str, prompt: str = "Hello") -> BatchRequest:
    body: dict[str, object] = {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": prompt}]}
    return BatchRequest(custom_id=custom_id, body=body)


async def results_of(claude: ClaudeClient, batch_id: str) -> dict[str, BatchResult]:
    return {each.custom_id: each async for each in message_batches.read_results(claude, batch_id)}


async def read_into(read: list[str], claude: ClaudeClient, batch_id: str) -> None:
    async for each in message_batches.read_results(claude, batch_id):
        read.append(each.custom_id)  # noqa: PERF401 - what came before an error counts


async def test_a_batch_is_created_polled_and_read(simulator: Simulator) -> None:
    async with client_of(simulator.url) as claude:
        created = await message_batches.create_batch(
            claude, [request("a", directive(text="Twelve")), request("b", directive(batch="errored")), request("c")]
        )
        assert (created.status, created.requests, created.has_results) == ("in_progress", 3, False)
        simulator.process_batches()
        ended = await message_batches.retrieve_batch(claude, created.id)
        assert (ended.has_ended, ended.requests, ended.has_results) == (True, 3, True)
        results = await results_of(claude, created.id)
    assert {name: each.kind for name, each in results.items()} == {"a": "succeeded", "b": "errored", "c": "succeeded"}
    error = results["b"].error
    assert isinstance(error, TemporaryError)
    assert error.kind == "api_error"
    assert error.request_id is not None


async def test_a_message_of_a_batch_is_read_like_a_stream(simulator: Simulator) -> None:
    async with client_of(simulator.url) as claude:
        created = await message_batches.create_batch(claude, [request("a", directive(text="Twelve and a half"))])
        simulator.process_batches()
        (result,) = (await results_of(claude, created.id)).values()
        stream = MessageStream(lambda _: None)
        assert result.message is not None
        claude.read_message(result.message, stream)
    usage = stream.usage()
    assert stream.text == "Twelve and a half"
    assert (usage.stop_reason, usage.service_tier, usage.estimated) == ("end_turn", "batch", False)
    logged = simulator.batch_items[0]
    assert (usage.input_tokens, usage.output_tokens) == (logged.input_tokens, logged.output_tokens)


async def test_a_message_of_a_batch_that_is_none_is_an_error(simulator: Simulator) -> None:
    async with client_of(simulator.url) as claude:
        await claude.get_client()
        with pytest.raises(TemporaryError):
            claude.read_message({"content": "no list of blocks"}, MessageStream(lambda _: None))


async def test_a_canceled_batch_says_what_was_not_answered(simulator: Simulator) -> None:
    async with client_of(simulator.url) as claude:
        created = await message_batches.create_batch(claude, [request("a"), request("b")])
        simulator.process_batches(1)
        assert (await message_batches.cancel_batch(claude, created.id)).status == "canceling"
        simulator.process_batches()
        results = await results_of(claude, created.id)
        with pytest.raises(RequestError, match="already ended"):
            await message_batches.cancel_batch(claude, created.id)
    assert {name: each.kind for name, each in results.items()} == {"a": "succeeded", "b": "canceled"}


async def test_batches_are_listed_from_a_time_on_over_all_pages(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_batches, "MAX_BATCHES_PER_PAGE", 2)
    async with client_of(simulator.url) as claude:
        created = [await message_batches.create_batch(claude, [request("a")]) for _ in range(5)]
        assert [each.id for each in await message_batches.list_batches(claude, 0)] == [
            each.id for each in reversed(created)
        ]
        assert await message_batches.list_batches(claude, created[-1].created_at + 60) == []


@pytest.mark.parametrize("offset_s", [-3600.0, 3600.0])
async def test_batches_are_listed_by_this_machines_clock_where_the_apis_differs(offset_s: float) -> None:
    began = time.time()
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), batch_clock_offset_s=offset_s) as simulator,
        client_of(simulator.url) as claude,
    ):
        created = await message_batches.create_batch(claude, [request("a")])
        assert abs(created.created_at - time.time()) > 1800
        # A minute to spare: a date has whole seconds.
        (listed,) = await message_batches.list_batches(claude, began - 60, time.time() + 60)
        assert listed.id == created.id
        assert await message_batches.list_batches(claude, 0, began - 7200) == []


async def test_a_batch_without_a_time_is_listed_whatever_the_time() -> None:
    body = json.dumps({"data": [CREATED | {"created_at": None}, CREATED], "has_more": False}).encode()
    async with cloud_upstream(CannedResponse("/batches", body, JSON)) as upstream, client_of(upstream.url) as claude:
        listed = await message_batches.list_batches(claude, time.time())
    assert [each.created_at for each in listed] == [0.0]


@pytest.mark.parametrize(("status", "none_there"), [(400, True), (413, True), (429, True), (529, True), (500, False)])
async def test_only_a_refusal_proves_that_there_is_no_batch(
    simulator: Simulator, status: int, *, none_there: bool
) -> None:
    simulator.fail_batch_requests("create", status=status)
    async with client_of(simulator.url) as claude:
        with pytest.raises(CallError) as caught:
            await message_batches.create_batch(claude, [request("a")])
    assert message_batches.was_not_created(caught.value) is none_there


async def test_a_lost_response_leaves_a_batch_that_the_list_has(simulator: Simulator) -> None:
    simulator.fail_batch_requests("create")
    async with client_of(simulator.url) as claude:
        with pytest.raises(TemporaryError) as caught:
            await message_batches.create_batch(claude, [request("a"), request("b")])
        assert not message_batches.was_not_created(caught.value)
        (found,) = await message_batches.list_batches(claude, 0)
    assert found.requests == 2


async def test_results_that_break_off_are_an_error_after_what_came(simulator: Simulator) -> None:
    async with client_of(simulator.url) as claude:
        created = await message_batches.create_batch(claude, [request(f"i{n}") for n in range(50)])
        simulator.process_batches()
        simulator.fail_batch_requests("results")
        read: list[str] = []
        with pytest.raises(TemporaryError):
            await read_into(read, claude, created.id)
        assert 0 < len(read) < 50
        assert len(await results_of(claude, created.id)) == 50


async def test_results_come_from_the_base_url_whatever_the_batch_says() -> None:
    line = {"custom_id": "a", "result": {"type": "expired"}}
    results = CannedResponse("/results", json.dumps(line).encode(), "application/x-jsonl")
    async with (
        cloud_upstream(results, CannedResponse("/batches", json.dumps(CREATED).encode(), JSON)) as upstream,
        client_of(upstream.url) as claude,
    ):
        batch = await message_batches.retrieve_batch(claude, "msgbatch_01")
        (result,) = (await results_of(claude, batch.id)).values()
    assert (result.kind, getattr(result.error, "kind", "")) == ("expired", "expired")


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b'{"id": ""}', b'{"id": "m", "processing_status": "baked"}', b'{"custom_id": 1, "result": {}}'],
)
async def test_a_response_that_is_no_batch_is_an_error_with_a_sentence(body: bytes) -> None:
    async with cloud_upstream(CannedResponse("/batches", body, JSON)) as upstream, client_of(upstream.url) as claude:
        with pytest.raises(CallError, match="base URL"):
            await message_batches.retrieve_batch(claude, "m")
        with pytest.raises(CallError, match="base URL"):
            await results_of(claude, "m")


async def test_a_batch_id_cannot_name_another_path(simulator: Simulator) -> None:
    async with client_of(simulator.url) as claude:
        with pytest.raises(RequestError):
            await message_batches.retrieve_batch(claude, "../models")
    assert simulator.requests[-1].path.startswith("/v1/messages/batches/")
