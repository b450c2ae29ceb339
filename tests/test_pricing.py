from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from genai_prices import calc_price, data_snapshot
from genai_prices import types as library
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude import pricing
from mcp_server_claude.call_types import Usage

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ANTHROPIC = next(each for each in data_snapshot.get_snapshot().providers if each.id == "anthropic")

# USD per MTok: input, output, 5-minute cache write, 1-hour cache write, cache read (Anthropic's price page, 2026-11).
PAGE = {
    "claude-fable-5-2": ("8", "40", "10", "16", "0.20"),
    "claude-mythos-5-2": ("8", "40", "10", "16", "0.20"),
    "claude-fable-5-1": ("10", "50", "12.5", "20", "0.25"),
    "claude-fable-5": ("10", "50", "12.5", "20", "1"),
    "claude-opus-5-5": ("4", "20", "5", "8", "0.20"),
    "claude-opus-5": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-8": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-7": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-6": ("5", "25", "6.25", "10", "0.50"),
    "claude-opus-4-5-20251101": ("5", "25", "6.25", "10", "0.50"),
    "claude-sonnet-5-5": ("2", "10", "2.5", "4", "0.10"),
    "claude-sonnet-5": ("2", "10", "2.5", "4", "0.20"),
    "claude-sonnet-4-6": ("3", "15", "3.75", "6", "0.30"),
    "claude-sonnet-4-5-20250929": ("3", "15", "3.75", "6", "0.30"),
    "claude-haiku-5-5": ("0.10", "0.50", "0.125", "0.20", "0.01"),
    "claude-haiku-4-5-20251001": ("1", "5", "1.25", "2", "0.10"),
}
FAST = {"claude-fable-5-2", "claude-mythos-5-2", "claude-opus-5-5", "claude-opus-5", "claude-opus-4-8"}


def usage(
    *, fresh: int = 0, read: int = 0, written: int = 0, output: int = 0, searches: int = 0, model: str = ""
) -> Usage:
    return Usage(
        model=model,
        input_tokens=fresh,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        output_tokens=output,
        web_searches=searches,
    )


@pytest.mark.parametrize("model", PAGE)
def test_a_batch_costs_half_and_fast_mode_double_where_it_exists(model: str) -> None:
    price = pricing.find_rates(model, at=NOW)
    assert price is not None
    found = (price.input, price.output, price.cache_write, price.cache_write_1h, price.cache_read)
    assert found == tuple(map(Decimal, PAGE[model]))


@pytest.mark.parametrize("model", PAGE)
def test_a_batch_is_half_and_fast_is_double_where_it_exists(model: str) -> None:
    price, batch, fast = (
        pricing.find_rates(model, at=NOW),
        pricing.find_rates(model, batch=True, at=NOW),
        pricing.find_rates(model, fast=True, at=NOW),
    )
    assert price
    assert batch
    assert (batch.input, batch.output, batch.cache_read) == (price.input / 2, price.output / 2, price.cache_read / 2)
    assert (fast is not None) == (model in FAST)
    if fast:
        assert (fast.input, fast.output, fast.cache_read) == (price.input * 2, price.output * 2, price.cache_read * 2)


def test_input_output_cache_and_searches_add_up() -> None:
    # Opus 5.5: 1,000 x $4 + 50,000 x $0.20 + 2,000 x $5 + 900 x $20 per MTok, and three searches at $0.01.
    counts = usage(fresh=1_000, read=50_000, written=2_000, output=900, searches=3)
    assert pricing.request_cost("claude-opus-5-5", counts, at=NOW) == Decimal("0.072")


def test_an_hour_in_the_cache_costs_more_than_five_minutes() -> None:
    # Sonnet 5.5: 600 x $2.50 + 400 x $4 per MTok.
    counts = usage(written=1_000)
    assert pricing.request_cost("claude-sonnet-5-5", counts, cache_creation_1h_input_tokens=400, at=NOW) == Decimal(
        "0.0031"
    )
    assert pricing.request_cost("claude-sonnet-5-5", counts, at=NOW) == Decimal("0.0025")
    assert pricing.request_cost("claude-sonnet-5-5", counts, cache_creation_1h_input_tokens=9_999, at=NOW) == Decimal(
        "0.004"
    )


def test_a_prompt_over_100k_raises_the_price_of_every_token_of_haiku_5_5_and_cached_tokens_count() -> None:
    at_the_edge = usage(fresh=60_000, read=30_000, written=10_000, output=1_000)
    # 60,000 x $0.10 + 30,000 x $0.01 + 10,000 x $0.125 + 1,000 x $0.50
    assert pricing.request_cost("claude-haiku-5-5", at_the_edge, at=NOW) == Decimal("0.00805")
    over_it = usage(fresh=60_001, read=30_000, written=10_000, output=1_000)
    # 60,001 x $0.50 + 30,000 x $0.05 + 10,000 x $0.625 + 1,000 x $2.50
    assert pricing.request_cost("claude-haiku-5-5", over_it, at=NOW) == Decimal("0.0402505")
    assert pricing.request_cost("claude-haiku-5-5", over_it, batch=True, at=NOW) == Decimal("0.0402505") / 2


def test_a_batch_costs_half_for_tokens_and_the_full_price_for_searches() -> None:
    counts = usage(fresh=1_000_000, output=100_000, searches=10)
    assert pricing.request_cost("claude-opus-5", counts, batch=True, at=NOW) == Decimal("2.5") + Decimal(
        "1.25"
    ) + Decimal("0.1")


def test_zero_usage_costs_zero_which_is_not_unknown() -> None:
    assert pricing.request_cost("claude-opus-5-5", usage(), at=NOW) == 0
    assert pricing.request_cost("my-own-model", usage(), at=NOW) is None


@pytest.mark.parametrize(
    "model",
    [
        "",
        "my-own-model",
        "gpt-6",
        "claude",
        "claude-opus-5-6",
        "claude-opus-6",
        "claude-opus-4-51",
        "claude-opus-4-5-fancy",
        "claude-haiku-4-5-9",
        "claude-haiku-5-5-nano",
        "claude-sonnet-4-6-5",
        "claude-fable-5-3",
        "claude-mythos-preview",
        "claude-mythos-9",
        "claude-sonnet-5-20250101-fast",
        "anthropic.claude-opus-5-6",
        "claude-opus-4-51@20260101",
    ],
)
def test_a_model_unknown_to_the_library_inherits_no_price(model: str) -> None:
    assert pricing.find_rates(model, at=NOW) is None
    assert pricing.request_cost(model, usage(fresh=1, output=1), at=NOW) is None


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("claude-opus-5-5-20260922", "claude-opus-5-5"),
        ("claude-opus-5.5", "claude-opus-5-5"),
        (" Claude-Opus-5-5 ", "claude-opus-5-5"),
        ("claude-opus-5-5@20260922", "claude-opus-5-5"),
        ("claude-opus-5@default", "claude-opus-5"),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
        ("claude-opus-4-20250514", "claude-opus-4-0"),
    ],
)
def test_an_alias_a_snapshot_and_a_platforms_spelling_are_the_same_model(name: str, same: str) -> None:
    assert pricing.find_rates(name, at=NOW) == pricing.find_rates(same, at=NOW) is not None


def test_opus_5_5_does_not_cost_what_opus_5_does() -> None:
    assert pricing.find_rates("claude-opus-5-5", at=NOW) != pricing.find_rates("claude-opus-5", at=NOW)


def test_a_regional_bedrock_endpoint_costs_a_tenth_more() -> None:
    regional = pricing.find_rates("us.anthropic.claude-opus-5-5", at=NOW)
    assert regional
    assert regional.input == Decimal("4.4")


def test_a_request_with_inference_in_a_region_costs_a_tenth_more_for_its_tokens_but_not_for_its_searches() -> None:
    counts = replace(usage(fresh=1_000_000, output=100_000), web_searches=2, inference_geo="us")
    assert pricing.request_cost("claude-opus-5-5", counts, at=NOW) == Decimal("6.6") + Decimal("0.02")
    for geo in ("global", "not_available", None):
        assert pricing.request_cost("claude-opus-5-5", replace(counts, inference_geo=geo), at=NOW) == Decimal("6.02")


def test_a_request_is_priced_by_the_reported_speed_and_tier() -> None:
    counts = usage(fresh=1_000_000)
    assert pricing.request_cost("claude-opus-5-5", replace(counts, speed="fast"), at=NOW) == pricing.request_cost(
        "claude-opus-5-5", counts, fast=True, at=NOW
    )
    assert pricing.request_cost("claude-opus-5-5", replace(counts, service_tier="batch"), at=NOW) == 2
    assert pricing.request_cost("claude-opus-5-5", replace(counts, service_tier="priority"), at=NOW) == 4
    assert pricing.request_cost("claude-opus-5-5", replace(counts, speed="standard"), at=NOW) == 4


def test_a_mythos_model_costs_what_the_fable_model_of_its_row_does() -> None:
    assert pricing.find_rates("claude-mythos-5-1", at=NOW) == pricing.find_rates("claude-fable-5-1", at=NOW)


def test_a_mode_without_a_published_price_is_unknown_not_standard() -> None:
    assert pricing.request_cost("claude-haiku-4-5", usage(fresh=1), fast=True, at=NOW) is None
    assert pricing.request_cost("claude-opus-5-5", usage(fresh=1), fast=True, batch=True, at=NOW) is None


def test_a_price_is_that_of_the_day_of_the_request() -> None:
    # Long prompts to Opus 4.6 cost double until 2026-03-13 (UTC).
    counts = usage(fresh=1_000_000)
    before = datetime(2026, 3, 13, 1, tzinfo=timezone(timedelta(hours=3)))
    assert pricing.request_cost("claude-opus-4-6", counts, at=before) == 10
    assert pricing.request_cost("claude-opus-4-6", counts, at=NOW) == 5
    assert pricing.request_cost("claude-opus-4-6", counts, at=NOW.replace(tzinfo=None)) == 5


def test_a_family_costs_at_most_as_much_as_its_most_expensive_model() -> None:
    haiku = pricing.highest_rates("haiku", at=NOW)
    assert haiku
    assert (haiku.input, haiku.output) == (Decimal(1), Decimal(5))
    opus, anything = pricing.highest_rates("opus", at=NOW), pricing.highest_rates("no such line", at=NOW)
    assert opus
    assert anything
    assert opus.output == Decimal(75) == anything.output


def test_the_prices_are_named_by_the_librarys_version() -> None:
    assert pricing.price_list_version().startswith("genai-prices 0.2.")


def test_prices_are_looked_up_from_many_threads() -> None:
    counts = usage(fresh=1_000, output=10)
    days = [NOW + timedelta(days=day % 8) for day in range(200)]
    with ThreadPoolExecutor(16) as pool:
        costs = [pool.submit(pricing.request_cost, "claude-opus-5-5", counts, at=day) for day in days]
    assert {each.result() for each in costs} == {Decimal("0.0042")}


def test_importing_the_module_does_not_import_the_library() -> None:
    code = (
        "import sys, mcp_server_claude.pricing; sys.exit('genai_prices' in sys.modules or 'anthropic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_of_the_librarys_data_only_the_rows_of_claude_stay_in_memory() -> None:
    code = """
import gc, sys
from mcp_server_claude import pricing
assert pricing.find_rates("claude-opus-5-5")
from genai_prices.types import ModelInfo
gc.collect()
others = [each.id for each in gc.get_objects() if isinstance(each, ModelInfo) and "claude" not in each.id]
print("genai_prices.data" in sys.modules, others)
from genai_prices import data_snapshot
print(data_snapshot.get_snapshot().find_provider_model("gpt-4o", None, "openai", None)[1].id)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["False []", "gpt-4o"]


def test_threads_that_ask_at_the_same_time_share_the_rows() -> None:
    code = """
from threading import Barrier, Thread
from mcp_server_claude import pricing
start, found = Barrier(8), []

def ask():
    start.wait()
    found.append(pricing._claude_prices())

threads = [Thread(target=ask) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(found), len({id(each) for each in found}))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("8 1\n", "")


@pytest.mark.parametrize("provider", pricing.PROVIDERS)
def test_every_name_of_claude_is_found_as_in_the_whole_library(provider: str) -> None:
    whole, ours = data_snapshot.get_snapshot(), pricing._claude_prices()  # pyright: ignore[reportPrivateUsage]
    (rows,) = (each.models for each in whole.providers if each.id == provider)
    names = [row.id for row in rows if "claude" in row.id]
    assert names
    for name in [*names, *(f"{name}-20301231" for name in names), "claude-opus-99", "claude"]:
        assert found_row(ours, name, provider) == found_row(whole, name, provider)


def found_row(snapshot: data_snapshot.DataSnapshot, name: str, provider: str) -> library.ModelInfo | None:
    try:
        return snapshot.find_provider_model(name, None, provider, None)[1]
    except LookupError:
        return None


counts = st.integers(0, 2_000_000)


@given(
    st.sampled_from([each for each in ANTHROPIC.models if each.id != "claude-v1"]),
    st.tuples(counts, counts, counts, counts, counts),
    st.sampled_from([None, {"processing": "batch"}, {"speed": "fast"}]),
)
def test_the_computed_costs_equal_those_of_the_library(
    row: library.ModelInfo, spent: tuple[int, int, int, int, int], context: dict[str, str] | None
) -> None:
    fresh, read, written, hour, output = spent
    call_usage = usage(fresh=fresh, read=read, written=written + hour, output=output)
    batch, fast = context == {"processing": "batch"}, context == {"speed": "fast"}
    found = pricing.request_cost(
        row.id, call_usage, cache_creation_1h_input_tokens=hour, batch=batch, fast=fast, at=NOW
    )
    if found is None:
        assert context is not None
        assert context not in [variant.when for variant in row.price_variants or ()]
        return
    theirs = library.Usage(
        input_tokens=fresh + read + written + hour,
        cache_read_tokens=read,
        cache_write_tokens=written + hour,
        cache_write_1h_tokens=hour,
        output_tokens=output,
    )
    price = calc_price(theirs, row.id, provider_id="anthropic", genai_request_timestamp=NOW, price_context=context)
    assert found == price.total_price
