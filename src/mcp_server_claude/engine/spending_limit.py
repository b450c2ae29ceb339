"""The spending limit of a call. Each request's `max_tokens` is cut to what can be paid for, so the API itself keeps it.

Before a request its highest possible cost is reserved, in micro-dollars and in one transaction with its ledger entry.
Afterwards the actual cost is recorded and the rest released. So concurrent calls, in any number of processes, never
pass the day's budget together.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting, pricing
from mcp_server_claude.anthropic_api.web_allowance import MAX_LOOP_ITERATIONS
from mcp_server_claude.errors import ConfigurationError, RequestError, TemporaryError
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import budget_reservations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.anthropic_api.request_body import CacheTtl
    from mcp_server_claude.anthropic_api.web_allowance import WebAllowance
    from mcp_server_claude.call_types import Call
    from mcp_server_claude.pricing import PriceRates
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store.budget_reservations import BudgetScope

DEFAULT_RESERVED_TOKENS = 16_000
"""Output tokens that a call reserves at most, under a budget, when it names no `max_tokens`."""
MIN_OUTPUT_TOKENS = 64
"""Output tokens below which no request is sent."""
MICROS_PER_USD = Decimal(1_000_000)
MODEL_FAMILIES = ("fable", "mythos", "opus", "sonnet", "haiku")
PRICED_LIKE_FAMILY = {"mythos": "fable"}
"""Families with few public prices, and the family that costs the same (the pricing page has them in one row)."""


@frozen_dataclass(kw_only=True)
class AffordableRequest:
    """What a reservation pays for: `max_tokens` of output, and an allowance where the request may use the web."""

    max_tokens: int
    web: WebAllowance | None = None


@frozen_dataclass(kw_only=True)
class ReservationRequest:
    """The reservation for one request, in micro-dollars: at least `min_micros`, at most `max_micros`."""

    scopes: tuple[BudgetScope, ...]
    day: str
    min_micros: int
    max_micros: int


class SpendingLimit:
    """The budgets that apply to one call, and the rest of its own `max_usd`.

    With `regional`, inference is confined to a region, at a higher price. A call in a batch is reserved at the price of
    batches.
    """

    def __init__(
        self,
        settings: Settings,
        call: Call,
        model: ClaudeModel,
        *,
        regional: bool = False,
        cache: CacheTtl | None = None,
    ) -> None:
        """`cache` is the time to live of what is written to the prompt cache; None for that of the settings."""
        self._settings = settings
        self._cache: CacheTtl = settings.cache if cache is None else cache
        self._daily_limits: dict[str, float] = {}
        if settings.budget_usd_per_day is not None:
            self._daily_limits[budget_reservations.TOTAL_SCOPE] = settings.budget_usd_per_day
        if call.limits.usd_per_day is not None:
            self._daily_limits[budget_reservations.user_scope(call.user)] = call.limits.usd_per_day
        if call.job_max_usd:
            self._daily_limits[budget_reservations.job_scope(call.job_id)] = call.job_max_usd
        self._call = call
        self._remaining_usd = None if not call.max_usd else Decimal(str(call.max_usd))
        self._regional = regional
        exact = pricing.find_rates(model.id, batch=call.batch, regional=regional)
        line = model.line or _family_of(model.id)
        self._rates = exact or _highest_rates(line, regional=regional)
        self._model = model
        self._surplus_usd = Decimal(0)
        self.note = ""
        if self.is_limited and exact is None and self._rates is not None:
            self.note = f"the price of {model.id} is unknown: counted at the highest price of its family"

    @property
    def is_limited(self) -> bool:
        """True if there is any limit, so that the input must be counted first."""
        return bool(self._daily_limits) or self._remaining_usd is not None

    def for_model(self, model: ClaudeModel) -> SpendingLimit:
        """The same limit for another model, with what was spent so far."""
        other = SpendingLimit(self._settings, self._call, model, regional=self._regional, cache=self._cache)
        other._remaining_usd = self._remaining_usd
        other._surplus_usd = self._surplus_usd
        return other

    @property
    def surplus_note(self) -> str:
        """A note on what the limits count beyond the cost in the call's usage; empty if they agree."""
        if not self._surplus_usd:
            return ""
        surplus = number_formatting.format_usd(float(self._surplus_usd))
        return f"{surplus} more counts against the limit: a request broke off before the API counted all of its tokens"

    def max_tokens_before_budget(self, max_tokens: int) -> int:
        """The `max_tokens` of a request before the budget is applied."""
        return min(max_tokens, DEFAULT_RESERVED_TOKENS) if self.is_limited and not self._call.max_tokens else max_tokens

    def reservation_for(
        self, input_tokens: int, max_tokens: int, web: Sequence[WebAllowance] = ()
    ) -> ReservationRequest:
        """The reservation for a request with this input and this `max_tokens`.

        `web` are the allowances for its web tools, the largest first. The largest is reserved where the limits have
        room for it, and at least the smallest.

        Raises:
            RequestError: `max_usd` does not pay for the input, the smallest allowance and a short answer.
        """
        largest, smallest = (web[0], web[-1]) if web else (None, None)
        max_micros = self._cost_micros(input_tokens, max_tokens, largest)
        min_micros = self._cost_micros(input_tokens, min(max_tokens, MIN_OUTPUT_TOKENS), smallest)
        if self._remaining_usd is not None:
            max_micros = min(max_micros, int(self._remaining_usd * MICROS_PER_USD))
            if max_micros < min_micros:
                raise self._too_low_error(self._remaining_usd, min_micros, with_web=bool(web))
        scopes = tuple((scope, int(Decimal(str(cap)) * MICROS_PER_USD)) for scope, cap in self._daily_limits.items())
        return ReservationRequest(scopes=scopes, day=current_budget_day(), min_micros=min_micros, max_micros=max_micros)

    def affordable_request(
        self, reserved_micros: int, input_tokens: int, max_tokens: int, web: Sequence[WebAllowance] = ()
    ) -> AffordableRequest:
        """What a reservation in micro-dollars pays for: the largest allowance that leaves the answer all that it asks
        for, or half of the reservation, and the output tokens beside it.
        """
        allowances = web or (None,)

        def leaves_enough(allowance: WebAllowance | None) -> bool:
            before_answer = self._cost_micros(input_tokens, 0, allowance)
            needed = self._cost_micros(input_tokens, max_tokens, allowance) - before_answer
            return reserved_micros - before_answer >= min(needed, reserved_micros / 2)

        allowance = next(filter(leaves_enough, allowances), allowances[-1])
        remaining = reserved_micros - self._cost_micros(input_tokens, 0, allowance)
        return AffordableRequest(
            max_tokens=max(1, math.floor(Decimal(remaining) / self._output_rate(input_tokens, allowance))),
            web=allowance,
        )

    def record_cost(
        self, cost: Decimal | None, *, output_tokens: int, input_tokens: int, min_micros: int = 0
    ) -> Decimal:
        """Take what a request cost from the call's own limit; returns it, estimated where the price is unknown.

        It takes at least `min_micros` micro-dollars; `surplus_note` then reports the difference.
        """
        if cost is None and self._rates is not None:
            cost = (input_tokens * self._rates.input + output_tokens * self._rates.output) / MICROS_PER_USD
        spent = max(cost or Decimal(0), min_micros / MICROS_PER_USD)
        self._surplus_usd += spent - (cost or Decimal(0))
        if self._remaining_usd is not None:
            self._remaining_usd = max(Decimal(0), self._remaining_usd - spent)
        return spent

    def budget_error(self, insufficient: budget_reservations.InsufficientBudget) -> TemporaryError:
        """The error for a budget that is used up: of the day, for the user or the server, or of the call's job."""
        if insufficient.scope == budget_reservations.job_scope(self._call.job_id):
            limit, left = number_formatting.format_distinct_usd(
                self._call.job_max_usd, insufficient.remaining_micros / 1e6
            )
            return TemporaryError(
                f"max_usd of {limit} for the whole job has {left} left, too little for another item.",
                kind="job_budget",
                should_retry=False,
            )
        reset = next_budget_day()
        owner = "The server's" if insufficient.scope == budget_reservations.TOTAL_SCOPE else "Your"
        cap, left = number_formatting.format_distinct_usd(
            self._daily_limits[insufficient.scope], insufficient.remaining_micros / 1e6
        )
        return TemporaryError(
            f"{owner} budget of {cap} a day has {left} left, too little for this call. "
            f"It resets at {reset:%Y-%m-%d %H:%M} UTC. Nothing more was sent.",
            kind="budget",
            retry_after_s=(reset - datetime.now(UTC)).total_seconds(),
            should_retry=False,
        )

    def _cost_micros(self, input_tokens: int, output_tokens: int, web: WebAllowance | None) -> int:
        """The highest cost of a request with this output, in micro-dollars: all of its input goes into the cache."""
        web_tokens = web.max_billed_tokens(input_tokens) if web is not None else 0
        rates = self._rates_for(input_tokens + web_tokens)
        return (
            _ceil_micros(input_tokens * rates.uncached_input_rate(self._cache))
            + _ceil_micros(web_tokens * rates.input)
            + _ceil_micros((web.uses if web is not None else 0) * rates.web_search * MICROS_PER_USD)
            + _ceil_micros(output_tokens * self._output_rate(input_tokens, web))
        )

    def _output_rate(self, input_tokens: int, web: WebAllowance | None) -> Decimal:
        """The highest price of an output token, in dollars per million: further runs of the model read it again."""
        if web is None:
            return self._rates_for(input_tokens).output
        rates = self._rates_for(input_tokens + web.max_billed_tokens(input_tokens))
        return rates.output + MAX_LOOP_ITERATIONS * rates.input

    def _rates_for(self, input_tokens: int) -> PriceRates:
        known = pricing.find_rates(
            self._model.id, prompt_tokens=input_tokens, batch=self._call.batch, regional=self._regional
        )
        rates = known or self._rates
        if rates is None:
            raise ConfigurationError(
                "There is a limit on spending, but no price is known of any model to keep it with.", kind="budget"
            )
        return rates

    def _too_low_error(self, remaining_usd: Decimal, min_micros: int, *, with_web: bool) -> RequestError:
        """The error for a `max_usd` of which too little is left for a request that costs at least `min_micros`."""
        limit, left, cost = number_formatting.format_distinct_usd(
            self._call.max_usd, float(remaining_usd), min_micros / 1e6
        )
        rest = f"{left} of it is left, and " if left != limit else ""
        costs = "the prompt with one search, one page" if with_web else "the prompt"
        return RequestError(
            f"max_usd of {limit} is too low: {rest}{costs} and a short answer may cost {cost}. Nothing more was sent.",
            kind="max_usd",
        )


def _highest_rates(line: str, *, regional: bool) -> PriceRates | None:
    rates = pricing.highest_rates(PRICED_LIKE_FAMILY.get(line, line))
    return rates.in_region() if rates is not None and regional else rates


def _family_of(name: str) -> str:
    """The family in the id of a gateway's list, e.g. `haiku` in `vendor/claude-haiku-9`; empty if it names none.

    Reserving at the price of the most expensive family would reject calls that are affordable.
    """
    return next((line for line in MODEL_FAMILIES if line in name.lower()), "")


def next_budget_day() -> datetime:
    """The moment at which the budgets reset."""
    return (datetime.now(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)


def current_budget_day() -> str:
    """The current budget day, in UTC."""
    return budget_reservations.budget_day()


def _ceil_micros(millionths: Decimal) -> int:
    """Tokens times dollars per million tokens, which is micro-dollars, rounded up."""
    return math.ceil(millionths)
