"""The ledger against the simulator's bill, which is computed from the documented rules by code of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio.to_thread
import pytest

from mcp_server_claude import pricing
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.call_types import Call
from mcp_server_claude.engine.ledger_writer import LedgerWriter, OpenEntry
from mcp_server_claude.simulator import Pace, Simulator, directive
from mcp_server_claude.store import request_ledger
from support.mcp_session import connect, usage_meta
from support.quick_run import slow_beyond
from support.server_database import open_store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_database")]

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
LONG_RULES = "Answer as a tea merchant of the old school would, with care and in full. " * 400
CALLS: list[dict[str, Any]] = [
    {"prompt": "Tea?"},
    {"prompt": "Tea?", "system": LONG_RULES},
    {"prompt": "And now?", "system": LONG_RULES},
    {"prompt": f"Think. {directive(think=300)}", "effort": "low"},
    {"prompt": "A person.", "schema": SCHEMA},
    {"prompt": f"News? {directive(search='on')}", "tools": ["web"]},
    {"prompt": f"No. {directive(stop='refusal', at=0, category='bio')}"},
    {"prompt": f"No. {directive(stop='refusal', at=0, category='cyber')}"},
    {"prompt": f"No. {directive(stop='refusal')}"},
    {"prompt": f"Cut. {directive(stop='max_tokens')}"},
    {"prompt": "word " * 120_000, "max_tokens": 50},
    {"prompt": f"Read much. {directive(search=2, fetch=3, page=2_000, results=500)}", "tools": ["web"]},
    {"prompt": f"Run it. {directive(code='on')}", "tools": ["code"]},
    {"prompt": f"Long ago. {directive(compact=200)}"},
    {"prompt": f"No. {directive(stop='refusal', at=0, category='cyber', fallback='claude-opus-4-8')}"},
    {"prompt": f"No. {directive(stop='refusal', at=0, category='bio', fallback='claude-opus-4-8')}"},
    {"prompt": f"No. {directive(stop='refusal', category='cyber', fallback='claude-opus-4-8', compact=90)}"},
]
MODELS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-mythos-5-1", "claude-opus-4-8")
PLACES_AND_CACHES = (("global", "5m"), ("us", "1h"), ("us", "5m"), ("global", "1h"))
COMBINATIONS = [
    (model, *PLACES_AND_CACHES[(n + shift) % len(PLACES_AND_CACHES)])
    for shift in range(len(PLACES_AND_CACHES))
    for n, model in enumerate(MODELS)
]
"""Each model with each region and cache; the first five have every model, region and cache among them."""


@pytest.mark.parametrize(("model", "inference_geo", "cache"), slow_beyond(len(MODELS), COMBINATIONS))
async def test_the_ledger_equals_the_bill_to_the_micro_dollar(
    tmp_path: Path, model: str, inference_geo: str, cache: str
) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), inference_geo=inference_geo) as api,
        connect("memory", "auto", tmp_path / "data", base_url=api.url, model=model, cache=cache) as session,
    ):
        for arguments in CALLS:
            result = await session.ask(**arguments)
            if arguments["prompt"] == "Tea?" and not result.is_error:
                await session.ask("More?", thread=usage_meta(result)["thread"])
        rows = {cast("str", row["request_id"]): row["cost_micros"] for row in session.ledger_rows()}
    billed = {each.request_id: None if each.usd is None else round(each.usd * 1_000_000) for each in api.bill()}
    assert len(billed) >= len(CALLS)
    assert {name: rows[name] for name in billed} == billed


async def test_the_cost_recorded_at_the_start_counts_an_hour_of_cache_at_its_price(tmp_path: Path) -> None:
    store = await anyio.to_thread.run_sync(open_store, tmp_path)
    written = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1000}
    usage = {"input_tokens": 0, "cache_creation_input_tokens": 1000, "cache_creation": written, "output_tokens": 0}
    stream = MessageStream(lambda _event: None)
    stream.feed_events([{"type": "message_start", "message": {"model": "claude-sonnet-5-5", "usage": usage}}])
    call = Call(prompt="Tea?")
    try:
        entry = await LedgerWriter(store).open_entry(call, attempt=1, model="claude-sonnet-5-5", base_url="")
        assert isinstance(entry, OpenEntry)
        entry.record_start(stream, stream.usage())
        await store.write(request_ledger.entries_of_call, call.id)  # writes happen in their order
        (recorded,) = await store.read(request_ledger.entries_of_call, call.id)
    finally:
        await store.close()
    rates = pricing.find_rates("claude-sonnet-5-5")
    assert rates is not None
    assert recorded.state == "open"
    assert recorded.cost_micros == round(1000 * rates.input * 2)
