"""The Message Batches API of the simulator, through the SDK."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, cast

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic

from mcp_server_claude.simulator import Pace, Simulator, directive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
    from anthropic.types.messages import MessageBatchIndividualResponse
    from anthropic.types.messages.batch_create_params import Request

pytestmark = pytest.mark.anyio
MODEL = "claude-opus-5-5"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """The API with batches that are in progress until the test processes them."""
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), batch_duration_s=None) as simulator:
        yield simulator


def item(custom_id: str, prompt: str = "Hello", more: dict[str, object] | None = None) -> Request:
    params: dict[str, object] = {"model": MODEL, "max_tokens": 1000, "messages": [{"role": "user", "content": prompt}]}
    return {"custom_id": custom_id, "params": cast("MessageCreateParamsNonStreaming", params | (more or {}))}


async def results_of(client: AsyncAnthropic, batch_id: str) -> dict[str, MessageBatchIndividualResponse]:
    return {result.custom_id: result async for result in await client.messages.batches.results(batch_id)}


async def test_a_batch_ends_when_its_items_are_processed(simulator: Simulator, client: AsyncAnthropic) -> None:
    created = await client.messages.batches.create(requests=[item("a"), item("b", directive(text="Twelve"))])

    assert created.processing_status == "in_progress"
    assert created.request_counts.processing == 2
    assert (created.results_url, created.ended_at) == (None, None)
    assert (created.expires_at - created.created_at).total_seconds() == 24 * 3600
    assert simulator.process_batches() == 2
    ended = await client.messages.batches.retrieve(created.id)
    assert ended.processing_status == "ended"
    assert (ended.request_counts.processing, ended.request_counts.succeeded) == (0, 2)
    assert ended.results_url == f"{simulator.url}/v1/messages/batches/{created.id}/results"
    found = await results_of(client, created.id)
    assert found["b"].result.type == "succeeded"
    message = found["b"].result.message
    assert [block.text for block in message.content if block.type == "text"] == ["Twelve"]
    assert message.usage.service_tier == "batch"


async def test_counts_stay_zero_until_the_whole_batch_has_ended(simulator: Simulator, client: AsyncAnthropic) -> None:
    created = await client.messages.batches.create(requests=[item("a"), item("b"), item("c")])
    simulator.process_batches(2)

    halfway = await client.messages.batches.retrieve(created.id)

    assert (halfway.request_counts.processing, halfway.request_counts.succeeded) == (3, 0)
    with pytest.raises(anthropic.BadRequestError, match="still in_progress"):
        await client.get(f"/v1/messages/batches/{created.id}/results", cast_to=str)


async def test_results_are_not_in_the_order_of_the_requests(simulator: Simulator, client: AsyncAnthropic) -> None:
    names = [f"item-{n}" for n in range(20)]
    created = await client.messages.batches.create(requests=[item(name) for name in names])
    simulator.process_batches()

    found = [result.custom_id async for result in await client.messages.batches.results(created.id)]

    assert found != names
    assert sorted(found) == sorted(names)


async def test_items_end_in_the_four_ways(simulator: Simulator, client: AsyncAnthropic) -> None:
    created = await client.messages.batches.create(
        requests=[
            item("fine"),
            item("overloaded", directive(fault="status", status=529)),
            item("broken", directive(fault="drop")),
            item("late", directive(batch="expired")),
            item("stopped", directive(batch="canceled")),
            item("refused", directive(stop="refusal", at=0)),
        ]
    )
    simulator.process_batches()

    found = await results_of(client, created.id)

    kinds = {name: result.result.type for name, result in found.items()}
    assert kinds == {
        "fine": "succeeded",
        "overloaded": "errored",
        "broken": "errored",
        "late": "expired",
        "stopped": "canceled",
        "refused": "succeeded",
    }
    overloaded = found["overloaded"].result
    assert overloaded.type == "errored"
    assert overloaded.error.error.type == "overloaded_error"
    counts = (await client.messages.batches.retrieve(created.id)).request_counts
    assert (counts.succeeded, counts.errored, counts.expired, counts.canceled) == (2, 2, 1, 1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model": "claude-nothing-1"}, "model: claude-nothing-1"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stream": True}, "stream"),
        ({"speed": "fast"}, "speed"),
        ({"fallbacks": "default"}, "fallbacks"),
        ({"messages": []}, "messages"),
    ],
)
async def test_parameters_of_an_item_are_checked_while_it_is_processed(
    simulator: Simulator, client: AsyncAnthropic, more: dict[str, object], message: str
) -> None:
    created = await client.messages.batches.create(requests=[item("good"), item("bad", more=more)])
    simulator.process_batches()

    found = await results_of(client, created.id)

    assert found["good"].result.type == "succeeded"
    bad = found["bad"].result
    assert bad.type == "errored"
    assert message in bad.error.error.message


@pytest.mark.parametrize(
    ("requests", "message"),
    cast(
        "list[tuple[list[object], str]]",
        [
            ([], "at least 1 item"),
            ([item("a b")], r"requests.0.custom_id: String should match pattern '\^\[a-zA-Z0-9_-\]\{1,64\}\$'"),
            ([item("a" * 65)], "String should match pattern"),
            ([item("")], "String should match pattern"),
            ([item("a\n")], "String should match pattern"),
            ([item("a"), item("b"), item("a")], "must be unique within a batch: a"),
            ([{"custom_id": "a"}], "requests.0.params: Field required"),
            ([{"custom_id": "a", "params": {}, "method": "POST"}], "requests.0.method: Extra inputs"),
        ],
    ),
)
async def test_the_shape_of_a_batch_is_checked_at_once(
    simulator: Simulator, client: AsyncAnthropic, requests: list[object], message: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=message):
        await client.messages.batches.create(requests=cast("list[Request]", requests))

    assert (await client.messages.batches.list()).data == []
    assert simulator.process_batches() == 0


async def test_a_batch_has_at_most_100_000_requests(client: AsyncAnthropic) -> None:
    requests = [cast("Request", {"custom_id": str(n), "params": {}}) for n in range(100_001)]

    with pytest.raises(anthropic.BadRequestError, match="at most 100000 items"):
        await client.messages.batches.create(requests=requests)


async def test_a_batch_may_be_larger_than_a_message_request(client: AsyncAnthropic) -> None:
    large = item("a", "x" * 34_000_000)

    with pytest.raises(anthropic.APIStatusError, match="exceeds the maximum size"):
        await client.post("/v1/messages", cast_to=str, body=large["params"])
    created = await client.messages.batches.create(requests=[large])

    assert created.request_counts.processing == 1


async def test_a_cancelled_batch_keeps_what_was_processed(simulator: Simulator, client: AsyncAnthropic) -> None:
    created = await client.messages.batches.create(requests=[item("a"), item("b"), item("c")])
    simulator.process_batches(1)

    canceling = await client.messages.batches.cancel(created.id)

    assert canceling.processing_status == "canceling"
    assert canceling.cancel_initiated_at is not None
    simulator.process_batches()
    found = await results_of(client, created.id)
    assert {name: result.result.type for name, result in found.items()} == {
        "a": "succeeded",
        "b": "canceled",
        "c": "canceled",
    }
    with pytest.raises(anthropic.BadRequestError, match="already ended"):
        await client.messages.batches.cancel(created.id)


async def test_unprocessed_items_expire_with_their_batch(simulator: Simulator, client: AsyncAnthropic) -> None:
    created = await client.messages.batches.create(requests=[item("a"), item("b")])
    simulator.process_batches(1)

    simulator.expire(created.id)

    found = await results_of(client, created.id)
    assert {name: result.result.type for name, result in found.items()} == {"a": "succeeded", "b": "expired"}


async def test_only_a_batch_that_has_ended_can_be_deleted(simulator: Simulator, client: AsyncAnthropic) -> None:
    created = await client.messages.batches.create(requests=[item("a")])
    with pytest.raises(anthropic.BadRequestError, match="cancel it"):
        await client.messages.batches.delete(created.id)
    simulator.process_batches()

    deleted = await client.messages.batches.delete(created.id)

    assert (deleted.type, deleted.id) == ("message_batch_deleted", created.id)
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.batches.retrieve(created.id)


async def test_results_of_an_archived_batch_are_deleted(simulator: Simulator, client: AsyncAnthropic) -> None:
    created = await client.messages.batches.create(requests=[item("a")])
    simulator.process_batches()

    simulator.archive_batch(created.id)

    archived = await client.messages.batches.retrieve(created.id)
    assert archived.archived_at is not None
    assert archived.results_url is None
    with pytest.raises(anthropic.NotFoundError, match="no longer available"):
        await client.get(f"/v1/messages/batches/{created.id}/results", cast_to=str)


async def test_batches_are_listed_newest_first_page_by_page(client: AsyncAnthropic) -> None:
    made = [(await client.messages.batches.create(requests=[item("a")])).id for _ in range(5)]

    first = await client.messages.batches.list(limit=2)
    every = [batch.id async for batch in client.messages.batches.list(limit=2)]
    before = await client.messages.batches.list(limit=2, before_id=made[0])

    assert ([batch.id for batch in first.data], first.has_more) == ([made[4], made[3]], True)
    assert every == made[::-1]
    assert [batch.id for batch in before.data] == [made[2], made[1]]
    with pytest.raises(anthropic.BadRequestError, match="limit"):
        await client.messages.batches.list(limit=1001)


async def test_a_batch_belongs_to_its_account(simulator: Simulator, client: AsyncAnthropic) -> None:
    created = await client.messages.batches.create(requests=[item("a")])

    async with AsyncAnthropic(api_key="another", base_url=simulator.url, max_retries=0) as other:
        with pytest.raises(anthropic.NotFoundError):
            await other.messages.batches.retrieve(created.id)
        assert (await other.messages.batches.list()).data == []


async def test_items_cost_half_and_unanswered_ones_nothing(simulator: Simulator, client: AsyncAnthropic) -> None:
    prompt = directive(text="four" * 100, think=0)
    complete = await client.messages.create(
        model=MODEL, max_tokens=1000, messages=[{"role": "user", "content": prompt}]
    )
    await client.messages.batches.create(
        requests=[item("a", prompt), item("b", directive(batch="errored")), item("c", directive(batch="expired"))]
    )
    simulator.process_batches()

    single, batched = simulator.bill()

    assert single.usd == Decimal(complete.usage.input_tokens * 4 + complete.usage.output_tokens * 20) / 1_000_000
    assert batched.usd == Decimal(complete.usage.input_tokens * 4 + complete.usage.output_tokens * 20) / 2_000_000
    assert batched.custom_id == "a"
    assert [request.custom_id for request in simulator.batch_items] == ["a", "b", "c"]


async def test_a_fault_that_strikes_once_does_not_strike_the_same_prompt_in_the_next_batch(
    simulator: Simulator, client: AsyncAnthropic
) -> None:
    prompt = directive(fault="status", status=529, times=1)
    for expected in ("errored", "succeeded"):
        created = await client.messages.batches.create(requests=[item("a", prompt)])
        simulator.process_batches()

        assert (await results_of(client, created.id))["a"].result.type == expected


async def test_requests_to_the_batches_api_fail_as_configured(simulator: Simulator, client: AsyncAnthropic) -> None:
    simulator.fail_batch_requests("create", status=529)
    with pytest.raises(anthropic.InternalServerError):
        await client.messages.batches.create(requests=[item("a")])
    assert (await client.messages.batches.list()).data == []

    simulator.fail_batch_requests("create")
    with pytest.raises(anthropic.APIConnectionError):
        await client.messages.batches.create(requests=[item("a")])
    (created,) = (await client.messages.batches.list()).data

    simulator.fail_batch_requests("retrieve", status=404)
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.batches.retrieve(created.id)
    simulator.process_batches()
    simulator.fail_batch_requests("results")
    with pytest.raises(httpx2.TransportError):
        await results_of(client, created.id)
    assert list(await results_of(client, created.id)) == ["a"]


async def test_without_a_test_in_control_a_batch_has_ended_at_the_next_request() -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as simulator,
        AsyncAnthropic(api_key="any", base_url=simulator.url, max_retries=0) as client,
    ):
        created = await client.messages.batches.create(requests=[item("a")])

        assert created.processing_status == "in_progress"
        assert (await client.messages.batches.retrieve(created.id)).processing_status == "ended"


async def test_thinking_with_a_changed_prefix_is_dropped_in_a_batch(
    simulator: Simulator, client: AsyncAnthropic
) -> None:
    first = await client.messages.create(
        model=MODEL, max_tokens=2000, messages=[{"role": "user", "content": directive(think=20)}]
    )
    history = [
        {"role": "user", "content": "another beginning"},
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]},
        {"role": "user", "content": "Go on"},
    ]
    with pytest.raises(anthropic.BadRequestError, match="bound to a different conversation"):
        await client.messages.create(model=MODEL, max_tokens=2000, messages=history)  # type: ignore[arg-type]

    created = await client.messages.batches.create(requests=[item("a", more={"messages": history})])
    simulator.process_batches()

    assert (await results_of(client, created.id))["a"].result.type == "succeeded"


async def test_a_batch_may_ask_for_300_000_tokens_with_the_beta(simulator: Simulator, client: AsyncAnthropic) -> None:
    for betas, expected in (({}, "errored"), ({"anthropic-beta": "output-300k-2026-03-24"}, "succeeded")):
        created = await client.messages.batches.create(
            requests=[item("a", more={"max_tokens": 300_000})], extra_headers=betas
        )
        simulator.process_batches()

        assert (await results_of(client, created.id))["a"].result.type == expected
