"""The measurements of calls for Prometheus, which fetches them. Needs the extra `prometheus`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from mcp_server_claude.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.telemetry.stderr_logging import CallOutcome

LABEL_NAMES = (
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "gen_ai_response_model",
    "mcp_server_claude_tool",
    "mcp_server_claude_end",
    "error_type",
)


class PrometheusSink:
    """Counts what calls took since it was made, in a registry of its own. The names are OpenTelemetry's, translated."""

    def __init__(self, *, users: bool) -> None:
        self._registry = CollectorRegistry()
        self._labels = (*LABEL_NAMES, "user_id") if users else LABEL_NAMES
        ProcessCollector(registry=self._registry)
        self._tokens = Histogram(
            "gen_ai_client_token_usage",
            "Tokens used, over all requests of a call.",
            (*self._labels, "gen_ai_token_type"),
            buckets=metrics.TOKEN_BUCKETS,
            registry=self._registry,
        )
        self._duration = self._seconds_histogram(
            "gen_ai_client_operation_duration", "How long calls took.", metrics.DURATION_BUCKETS_S
        )
        self._first_chunk = self._seconds_histogram(
            "gen_ai_client_operation_time_to_first_chunk",
            "From the call to its first visible text.",
            metrics.FIRST_CHUNK_BUCKETS_S,
        )
        self._cost = Counter(
            "mcp_server_claude_cost_usd", "US dollars, by the price list.", self._labels, registry=self._registry
        )

    def record_metrics(self, labels: Mapping[str, str], outcome: CallOutcome) -> None:
        """Count a call."""
        usage, values = outcome.usage, {name.replace(".", "_"): value for name, value in labels.items()}
        own = {name: values.get(name, "") for name in self._labels}
        self._duration.labels(**own).observe(usage.duration_s)
        if usage.ttft_s is not None:
            self._first_chunk.labels(**own).observe(usage.ttft_s)
        if usage.attempts:
            for kind, count in metrics.tokens_by_type(outcome).items():
                self._tokens.labels(**own, gen_ai_token_type=kind).observe(count)
            self._cost.labels(**own).inc(usage.cost_usd or 0.0)

    def render_metrics(self, accept: str) -> tuple[bytes, str]:
        """Everything counted so far, and its media type: what the one who asks prefers of what Prometheus reads."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type

    def _seconds_histogram(self, name: str, documentation: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, documentation, self._labels, unit="seconds", buckets=buckets, registry=self._registry)
