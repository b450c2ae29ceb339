"""Numbers formatted for people: counts with their noun, tokens, dollars, seconds."""

from __future__ import annotations

MIN_COMPARED_DIGITS, MAX_COMPARED_DIGITS = 3, 9
"""Digits after the point of dollars that are compared; the prices of single tokens have seven."""


def format_count(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: 1 request, 1,234 requests. `plural` is the noun after other numbers, if not with an s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def format_tokens(count: int) -> str:
    """A token count in at most four characters: 812, 1.2k, 48k, 1.3M, 3.1B. The pages write it alike."""
    if count < 1000:
        return str(count)
    for unit, size in (("k", 1000), ("M", 1_000_000), ("B", 1_000_000_000)):
        value = count / size
        if value < 9.95:
            return f"{value:.1f}".removesuffix(".0") + unit
        if value < 999.5:
            return f"{value:.0f}{unit}"
    return f"{count / 1_000_000_000:,.0f}B"


def format_usd(usd: float | None) -> str:
    """US dollars with the digits that matter: $0.0004, $0.031, $1.24, $1,234.50; `$?` when the price is unknown."""
    if usd is None:
        return "$?"
    if usd == 0:
        return "$0"
    if usd < 0.01:
        return f"${usd:.4f}" if usd >= 0.0001 else "<$0.0001"
    return f"${usd:.3f}" if usd < 1 else f"${usd:,.2f}"


def format_distinct_usd(*amounts: float) -> tuple[str, ...]:
    """Amounts that a sentence compares, with as many digits as it takes: different ones never look the same, and only
    zero looks like zero.
    """
    texts = [format_usd(usd) for usd in amounts]
    for digits in range(MIN_COMPARED_DIGITS, MAX_COMPARED_DIGITS + 1):
        shown = [_shown_amount(text) for text in texts]
        for place, usd in enumerate(amounts):
            same = {other for other, value in zip(amounts, shown, strict=True) if value == shown[place]}
            if usd and (len(same) > 1 or not shown[place]):
                texts[place] = f"${usd:,.{digits}f}"
    return tuple(texts)


def _shown_amount(text: str) -> float:
    """The amount that a reader takes from a text; 0 for less than so much."""
    return float(text[1:].replace(",", "")) if text.startswith("$") else 0.0


def format_seconds(elapsed: float) -> str:
    """Seconds as a person writes them: 0.4 s, 12 s, 3 min 20 s."""
    if elapsed < 10:
        return f"{elapsed:.1f} s"
    if elapsed < 120:
        return f"{elapsed:.0f} s"
    minutes, rest = divmod(round(elapsed), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
