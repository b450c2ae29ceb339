"""The measurements of calls, and the sinks that take them.

Buckets are those of the GenAI semantic conventions and extend beyond theirs (82 s), since a call that thinks may take
an hour. What labels a measurement comes from few values: a name that callers choose could otherwise fill a database
with series.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from mcp_server_claude.telemetry.stderr_logging import CallOutcome

DURATION_BUCKETS_S = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
    163.84,
    655.36,
    2621.44,
)
FIRST_CHUNK_BUCKETS_S = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    30.0,
    120.0,
)
TOKEN_BUCKETS = tuple(4.0**power for power in range(14))

OTHER_LABEL = "_OTHER"
"""The name that the conventions give to all other values."""
MAX_MODEL_LABELS = 100
MAX_USER_LABELS = 1000
MAX_KIND_LABELS = 100

MetricsSink: TypeAlias = "Callable[[Mapping[str, str], CallOutcome], None]"
"""A function that counts a call with these labels."""

_sinks: list[MetricsSink] = []


@contextmanager
def add_sink(sink: MetricsSink) -> Generator[None]:
    """Give the measurements to `sink`, for as long as the block runs."""
    _sinks.append(sink)
    try:
        yield
    finally:
        _sinks.remove(sink)


def keep_sink(sink: MetricsSink) -> None:
    """Give the measurements to `sink` for as long as the process runs; once."""
    if sink not in _sinks:
        _sinks.append(sink)


class BoundedLabels:
    """The first so many names that come along; every further one is `_OTHER`."""

    def __init__(self, max_names: int) -> None:
        self._max_names = max_names
        self._names: set[str] = set()

    def __call__(self, name: str) -> str:
        """The name, or `_OTHER`."""
        if name not in self._names:
            if len(self._names) >= self._max_names:
                return OTHER_LABEL
            self._names.add(name)
        return name


_model_labels, _user_labels, _kind_labels = (
    BoundedLabels(MAX_MODEL_LABELS),
    BoundedLabels(MAX_USER_LABELS),
    BoundedLabels(MAX_KIND_LABELS),
)


def record_call_metrics(outcome: CallOutcome, *, users: bool) -> None:
    """Count a call that has ended; by its user too where `users` says so."""
    labels = metric_labels(outcome, users=users)
    for sink in _sinks:
        sink(labels, outcome)


def metric_labels(outcome: CallOutcome, *, users: bool) -> dict[str, str]:
    """Metric attributes. Requested model names that never answered are reported as `_OTHER`: callers could invent
    any number.
    """
    answered = outcome.usage.model
    labels = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": _model_labels(outcome.model) if outcome.model else OTHER_LABEL,
        "mcp_server_claude.tool": outcome.call.tool,
        "mcp_server_claude.end": outcome.end,
    }
    if answered:
        labels["gen_ai.response.model"] = _model_labels(answered)
    if outcome.kind:
        labels["error.type"] = _kind_labels(outcome.kind)
    if users:
        labels["user.id"] = _user_labels(outcome.call.user)
    return labels


def tokens_by_type(outcome: CallOutcome) -> dict[str, int]:
    """Tokens by type. Input is all of it, cached or not, as the conventions have it."""
    usage = outcome.usage
    read = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens
    return {"input": read, "output": usage.output_tokens}
