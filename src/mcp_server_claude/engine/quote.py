"""What a call would cost, before anything is sent for generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude import pricing

if TYPE_CHECKING:
    from mcp_server_claude.models import Catalogue, Model

SHORT_TOKENS = 500
"""A short answer, as the lower end of a price range."""
CHEAPER_LINES = ("opus", "sonnet", "haiku")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """One way to ask: what the input, a short answer and the longest answer cost, in US dollars; None when unknown.

    `estimated` says that the input could not be counted, and has rather fewer tokens than this.
    """

    model: str
    how: str
    input_tokens: int
    max_tokens: int
    input_usd: float | None
    short_usd: float | None
    most_usd: float | None
    estimated: bool = False


def quotes(catalogue: Catalogue, model: Model, *, input_tokens: int, max_tokens: int) -> tuple[Quote, ...]:
    """The call as it is, in a batch, and on the newest model of each cheaper line; the input counted once."""
    asked = _quote(model, "as asked", input_tokens, max_tokens)
    others = [_quote(model, "in a batch (within 24 h)", input_tokens, max_tokens, batch=True)] if model.batch else []
    for line in CHEAPER_LINES:
        other = catalogue.newest(line)
        if other is not None and other.id != model.id:
            offer = _quote(other, f"model={line}", input_tokens, min(max_tokens, other.tokens()))
            if asked.most_usd is None or (offer.most_usd is not None and offer.most_usd < asked.most_usd):
                others.append(offer)
    return asked, *others


def _quote(model: Model, how: str, input_tokens: int, max_tokens: int, *, batch: bool = False) -> Quote:
    rates = pricing.rates(model.id, prompt_tokens=input_tokens, batch=batch)

    def cost(output_tokens: int) -> float | None:
        if rates is None:
            return None
        return float((input_tokens * rates.input + output_tokens * rates.output) / pricing.MILLION)

    return Quote(
        model=model.id,
        how=how,
        input_tokens=input_tokens,
        max_tokens=max_tokens,
        input_usd=cost(0),
        short_usd=cost(min(SHORT_TOKENS, max_tokens)),
        most_usd=cost(max_tokens),
    )
