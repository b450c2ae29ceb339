"""OpenTelemetry's instruments for the measurements of calls, by their conventional names and units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.metrics import get_meter

from mcp_server_claude.telemetry.metrics import (
    DURATION_BUCKETS_S,
    FIRST_CHUNK_BUCKETS_S,
    TOKEN_BUCKETS,
    tokens_by_type,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.telemetry.stderr_logging import CallOutcome

_meter = get_meter("mcp_server_claude")
_tokens = _meter.create_histogram(
    "gen_ai.client.token.usage",
    unit="{token}",
    description="Tokens used, over all requests of a call.",
    explicit_bucket_boundaries_advisory=TOKEN_BUCKETS,
)
_duration = _meter.create_histogram(
    "gen_ai.client.operation.duration",
    unit="s",
    description="How long calls took, with waits and retries.",
    explicit_bucket_boundaries_advisory=DURATION_BUCKETS_S,
)
_first_chunk = _meter.create_histogram(
    "gen_ai.client.operation.time_to_first_chunk",
    unit="s",
    description="From the call to its first visible text.",
    explicit_bucket_boundaries_advisory=FIRST_CHUNK_BUCKETS_S,
)
_cost = _meter.create_counter("mcp_server_claude.cost", unit="USD", description="US dollars, by the price list.")


def record_on_instruments(labels: Mapping[str, str], outcome: CallOutcome) -> None:
    """Count a call, with whatever meter provider the process has."""
    usage = outcome.usage
    _duration.record(usage.duration_s, labels)
    if usage.ttft_s is not None:
        _first_chunk.record(usage.ttft_s, labels)
    if usage.attempts:
        for kind, count in tokens_by_type(outcome).items():
            _tokens.record(count, {**labels, "gen_ai.token.type": kind})
        if usage.cost_usd is not None:
            _cost.add(usage.cost_usd, labels)
