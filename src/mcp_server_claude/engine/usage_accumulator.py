"""The usage of one call, added up over its upstream requests while it runs."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING

from mcp_server_claude import pricing
from mcp_server_claude.call_types import COMPLETE_STOP_REASONS, ModelUsage, TokenCounts, Usage
from mcp_server_claude.engine.request_bill import BillShare

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Call, StopReason
    from mcp_server_claude.engine.request_bill import RequestBill


class _ModelTotals:
    """The totals of one model's requests. `cost` is None once the price of one of them is unknown."""

    def __init__(self) -> None:
        self.requests = 0
        self.counts = TokenCounts()
        self.cost: Decimal | None = Decimal(0)

    def add_usage(self, counts: TokenCounts, cost: Decimal | None) -> None:
        self.requests += 1
        self.counts = self.counts.plus(counts)
        self.cost = None if self.cost is None or cost is None else self.cost + cost

    def add_totals(self, other: _ModelTotals) -> None:
        self.add_usage(other.counts, other.cost)
        self.requests += other.requests - 1


class UsageAccumulator:
    """Adds up the requests of a call. Times are seconds since the call began."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._started_at = time.monotonic()
        self._totals: dict[str, _ModelTotals] = {"": _ModelTotals()}
        self._requested = ""
        self._fallback_from: str | None = None
        self._model = ""
        self._served = Usage()
        self._estimated = False
        self._request_ids: list[str] = []
        self._stop_reason: StopReason | None = None
        self._ttft_s: float | None = None
        self.attempts = 0
        self.retries = 0
        self.resumed = False

    def add_request(self, bill: RequestBill, first_text_at: float | None) -> None:
        """Add one upstream request; `first_text_at` is the monotonic time of its first text."""
        usage = bill.usage
        if bill.fallback_from:
            self._name_requested_model(bill.fallback_from)
        alone = BillShare(model=usage.model if bill.fallback_from else self._requested, counts=usage, cost=bill.cost)
        for share in bill.shares or (alone,):
            self._totals.setdefault(share.model, _ModelTotals()).add_usage(share.counts, share.cost)
        self._model = usage.model or self._model
        self._served = usage
        self._estimated = self._estimated or usage.estimated
        self._request_ids.extend(usage.request_ids)
        self._stop_reason = usage.stop_reason
        if self._ttft_s is None and first_text_at is not None:
            self._ttft_s = first_text_at - self._started_at

    def _name_requested_model(self, requested: str) -> None:
        """Enter the requests so far under the model that was requested: the API let another one answer."""
        self._fallback_from = self._fallback_from or requested
        if not self._requested:
            self._requested = requested
            totals = self._totals.pop("")
            totals.add_totals(self._totals.pop(requested, _ModelTotals()))
            self._totals = {requested: totals} | self._totals

    def switch_model(self, requested: str, fallback: str) -> None:
        """Add the following requests to the `fallback` model. The text so far was withdrawn."""
        self._name_requested_model(requested)
        self._totals.setdefault(fallback, _ModelTotals())
        self._requested, self._fallback_from = fallback, self._fallback_from or requested
        self._stop_reason, self._ttft_s = None, None
        self.resumed = False

    def elapsed_s(self) -> float:
        """Seconds since the call began."""
        return time.monotonic() - self._started_at

    def usage(self) -> Usage:
        """The usage so far."""
        call = self._call
        counts, cost = TokenCounts(), Decimal(0)
        priced = True
        for totals in self._totals.values():
            counts = counts.plus(totals.counts)
            priced = priced and totals.cost is not None
            cost += totals.cost or 0
        return Usage(
            **counts.counts(),
            model=self._model,
            cost_usd=float(cost) if priced else None,
            pricing_as_of=pricing.price_list_version() if priced else None,
            stop_reason=self._stop_reason,
            complete=self._stop_reason in COMPLETE_STOP_REASONS,
            estimated=self._estimated,
            resumed=self.resumed,
            request_ids=tuple(self._request_ids),
            attempts=self.attempts,
            retries=self.retries,
            ttft_s=None if self._ttft_s is None else round(self._ttft_s, 4),
            duration_s=round(self.elapsed_s(), 4),
            thread=call.thread or None,
            call_id=call.id,
            user=call.user,
            trace_id=call.trace_id,
            fallback_from=self._fallback_from,
            by_model=self._by_model() if self._fallback_from else (),
            inference_geo=self._served.inference_geo,
            speed=self._served.speed,
            service_tier=self._served.service_tier,
        )

    def _by_model(self) -> tuple[ModelUsage, ...]:
        return tuple(
            ModelUsage(
                **totals.counts.counts(),
                model=model,
                requests=totals.requests,
                cost_usd=None if totals.cost is None else float(totals.cost),
            )
            for model, totals in self._totals.items()
        )
