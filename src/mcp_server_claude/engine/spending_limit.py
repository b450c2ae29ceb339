"""What a call may spend: the API itself keeps to it, because each request's `max_tokens` is what can be paid for.

Before a request the dearest way it can end is reserved, in micro-dollars and in one statement with its ledger line;
afterwards what it cost is booked and the rest given back. So calls at once, in any number of processes, never pass the
day's budget together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting, pricing
from mcp_server_claude.anthropic_api import MAX_WEB_SEARCHES
from mcp_server_claude.errors import Misconfigured, Refused, Unavailable
from mcp_server_claude.store import budget_reservations

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.call_types import Call
    from mcp_server_claude.pricing import PriceRates
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store.budget_reservations import BudgetScope

UNASKED_TOKENS = 16_000
"""Output tokens that a call reserves at most, under a budget, when it names no `max_tokens`."""
LEAST_TOKENS = 64
"""An answer of fewer tokens is not worth sending for."""
MICRO = Decimal(1_000_000)
LINES = ("fable", "mythos", "opus", "sonnet", "haiku")
PRICED_AS = {"mythos": "fable"}
"""Lines of which hardly a model has a public price, and the line that costs the same (the pricing page names them in
one row)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is to be reserved for one request, in micro-dollars: at least `least`, at most `most`."""

    scopes: tuple[BudgetScope, ...]
    day: str
    least: int
    most: int


class Purse:
    """The limits of one call, and what is left of its own `max_usd`."""

    def __init__(self, settings: Settings, call: Call, model: ClaudeModel) -> None:
        self._settings = settings
        self._caps: dict[str, float] = {}
        if settings.budget_usd_per_day is not None:
            self._caps[budget_reservations.TOTAL_SCOPE] = settings.budget_usd_per_day
        if call.limits.usd_per_day is not None:
            self._caps[budget_reservations.user_scope(call.user)] = call.limits.usd_per_day
        self._call = call
        self._own = None if not call.max_usd else Decimal(str(call.max_usd))
        exact = pricing.find_rates(model.id)
        line = model.line or _line_of(model.id)
        self._rates = exact or pricing.highest_rates(PRICED_AS.get(line, line))
        self._model = model
        self.note = ""
        if self.limited and exact is None and self._rates is not None:
            self.note = f"the price of {model.id} is unknown: counted at the dearest of its line"

    @property
    def limited(self) -> bool:
        """Whether there is any limit, so that the input must be counted first."""
        return bool(self._caps) or self._own is not None

    def of(self, model: ClaudeModel) -> Purse:
        """The same money, for another model."""
        other = Purse(self._settings, self._call, model)
        other._own = self._own
        return other

    def wanted(self, max_tokens: int) -> int:
        """The output tokens that a request may take before money is looked at."""
        return min(max_tokens, UNASKED_TOKENS) if self.limited and not self._call.max_tokens else max_tokens

    def ask(self, input_tokens: int, max_tokens: int) -> Ask:
        """What a request with this input and this `max_tokens` has to reserve.

        Raises:
            Refused: The call's own limit does not even pay for the input and a short answer.
        """
        rates = self._at(input_tokens)
        entrance = self._entrance(input_tokens, rates)
        most = entrance + _micros(max_tokens * rates.output)
        least = entrance + _micros(min(max_tokens, LEAST_TOKENS) * rates.output)
        if self._own is not None:
            most = min(most, int(self._own * MICRO))
            if most < least:
                raise Refused(
                    f"max_usd of {number_formatting.format_usd(self._call.max_usd)} is not enough: the prompt "
                    "alone costs "
                    f"about {number_formatting.format_usd(entrance / 1e6)}{self._and_so_far()}. Nothing more was sent.",
                    kind="max_usd",
                )
        scopes = tuple((scope, int(Decimal(str(cap)) * MICRO)) for scope, cap in self._caps.items())
        return Ask(scopes=scopes, day=today(), least=least, most=most)

    def affordable(self, granted: int, input_tokens: int) -> int:
        """The `max_tokens` that a grant in micro-dollars pays for."""
        rates = self._at(input_tokens)
        return max(1, math.floor((granted - self._entrance(input_tokens, rates)) / rates.output))

    def spend(self, cost: Decimal | None, *, output_tokens: int, input_tokens: int, least: int = 0) -> Decimal:
        """Take what a request cost from the call's own limit; returns it, estimated where the price is unknown.

        Not less than `least` micro-dollars.
        """
        if cost is None and self._rates is not None:
            cost = (input_tokens * self._rates.input + output_tokens * self._rates.output) / MICRO
        spent = max(cost or Decimal(0), least / MICRO)
        if self._own is not None:
            self._own = max(Decimal(0), self._own - spent)
        return spent

    def refusal(self, short: budget_reservations.InsufficientBudget) -> Unavailable:
        """The day's budget, the user's or everybody's, does not pay for it."""
        reset = next_day()
        whose = "the server's" if short.scope == budget_reservations.TOTAL_SCOPE else "your"
        cap = self._caps[short.scope]
        failure = Unavailable(
            f"Of {whose} budget of {number_formatting.format_usd(cap)} a day "
            f"{number_formatting.format_usd(short.remaining_micros / 1e6)} is left, too little for this call. "
            "It starts anew at "
            f"{reset:%Y-%m-%d %H:%M} UTC. Nothing more was sent.",
            kind="budget",
            retry_after_s=(reset - datetime.now(UTC)).total_seconds(),
        )
        failure.should_retry = False
        return failure

    def _entrance(self, input_tokens: int, rates: PriceRates) -> int:
        """What a request costs before its answer, in micro-dollars: at most, as if all of it went into the cache."""
        searches = MAX_WEB_SEARCHES if "web" in self._call.tools else 0
        return _micros(input_tokens * rates.uncached_input_rate(self._settings.cache)) + _micros(
            searches * rates.web_search * MICRO
        )

    def _at(self, input_tokens: int) -> PriceRates:
        rates = pricing.find_rates(self._model.id, prompt_tokens=input_tokens) or self._rates
        if rates is None:
            raise Misconfigured(
                "There is a limit on spending, but no price is known of any model to keep it with.", kind="budget"
            )
        return rates

    def _and_so_far(self) -> str:
        own = Decimal(str(self._call.max_usd))
        spent = own - (self._own or Decimal(0))
        return f", and {number_formatting.format_usd(float(spent))} is spent already" if spent else ""


def _line_of(name: str) -> str:
    """The line that an id of another's list speaks of, `haiku` in `vendor/claude-haiku-9`; empty where it names none.

    The dearest of all lines would refuse what is affordable.
    """
    return next((line for line in LINES if line in name.lower()), "")


def next_day() -> datetime:
    """When the budget starts anew."""
    return (datetime.now(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)


def today() -> str:
    """The day that budgets are kept by, in UTC."""
    return budget_reservations.budget_day()


def _micros(millionths: Decimal) -> int:
    """Tokens times dollars per million tokens is micro-dollars; rounded up."""
    return math.ceil(millionths)
