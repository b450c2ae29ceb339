"""The account of one call, added up over its upstream requests while it runs."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING

from mcp_server_claude import pricing
from mcp_server_claude.call_types import COMPLETE_STOP_REASONS, ModelUsage, Usage

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Call, StopReason

TOKEN_COUNT_FIELDS = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
    "thinking_tokens",
    "web_searches",
)
MODEL_USAGE_FIELDS = TOKEN_COUNT_FIELDS[:4]


class _ModelTotals:
    """What one model's requests come to."""

    def __init__(self) -> None:
        self.requests = 0
        self.counts = dict.fromkeys(TOKEN_COUNT_FIELDS, 0)
        self.cost: Decimal | None = Decimal(0)

    def add_usage(self, usage: Usage, cost: Decimal | None) -> None:
        self.requests += 1
        for name in TOKEN_COUNT_FIELDS:
            self.counts[name] += getattr(usage, name)
        self.cost = None if self.cost is None or cost is None else self.cost + cost


class UsageAccumulator:
    """Adds up what a call's requests used. Times are seconds since the call came in.

    `capped` says that money, not `max_tokens`, bounded the latest request.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._started_at = time.monotonic()
        self._totals: dict[str, _ModelTotals] = {"": _ModelTotals()}
        self._requested = ""
        self._fallback_from: str | None = None
        self._model = ""
        self._estimated = False
        self._request_ids: list[str] = []
        self._stop_reason: StopReason | None = None
        self._ttft_s: float | None = None
        self.attempts = 0
        self.retries = 0
        self.resumed = False
        self.limited_by_budget = False

    def add_request(self, usage: Usage, cost: Decimal | None, first_text_at: float | None) -> None:
        """Take in one upstream request; `first_text_at` is the monotonic time of its first text."""
        self._totals[self._requested].add_usage(usage, cost)
        self._model = usage.model or self._model
        self._estimated = self._estimated or usage.estimated
        self._request_ids.extend(usage.request_ids)
        self._stop_reason = usage.stop_reason
        if self._ttft_s is None and first_text_at is not None:
            self._ttft_s = first_text_at - self._started_at

    def switch_model(self, requested: str, fallback: str) -> None:
        """From here on another model is asked `instead`, and what was written is withdrawn."""
        self._totals = {requested: self._totals[self._requested], fallback: _ModelTotals()}
        self._requested, self._fallback_from = fallback, requested
        self._stop_reason, self._ttft_s = None, None
        self.resumed = self.limited_by_budget = False

    def usage(self) -> Usage:
        """The account as it stands."""
        call = self._call
        sums = list(self._totals.values())
        known = [each.cost for each in sums if each.cost is not None]
        cost = sum(known, Decimal(0)) if len(known) == len(sums) else None
        return Usage(
            model=self._model,
            **{name: sum(each.counts[name] for each in sums) for name in TOKEN_COUNT_FIELDS},
            cost_usd=None if cost is None else float(cost),
            pricing_as_of=pricing.price_list_version() if cost is not None else None,
            stop_reason=self._stop_reason,
            complete=self._stop_reason in COMPLETE_STOP_REASONS,
            estimated=self._estimated,
            resumed=self.resumed,
            request_ids=tuple(self._request_ids),
            attempts=self.attempts,
            retries=self.retries,
            ttft_s=None if self._ttft_s is None else round(self._ttft_s, 4),
            duration_s=round(time.monotonic() - self._started_at, 4),
            thread=call.thread or None,
            call_id=call.id,
            user=call.user,
            trace_id=call.trace_id,
            fallback_from=self._fallback_from,
            by_model=self._by_model() if self._fallback_from else (),
        )

    def _by_model(self) -> tuple[ModelUsage, ...]:
        return tuple(
            ModelUsage(
                model=model,
                requests=each.requests,
                **{name: each.counts[name] for name in MODEL_USAGE_FIELDS},
                cost_usd=None if each.cost is None else float(each.cost),
            )
            for model, each in self._totals.items()
        )
