"""What the usage page must say: the ledger's numbers, by plain SQL, in the page's words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from playwright.async_api import Page, expect

from mcp_server_claude import number_formatting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.browser.page_driver import PageDriver
    from support.reference_usage import ReferenceUsage

Table: TypeAlias = list[list[str]]
"""The cells' texts, a row's head first."""

READ_TABLE = """
table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent))
"""
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sept", "Oct", "Nov", "Dec")
"""As the British write them, says Chromium."""


async def open_usage_page(reader: PageDriver, query: str = "") -> Page:
    """Go to the usage page, and wait for its numbers."""
    await reader.page.goto(f"{reader.url}/usage{query}")
    await wait_for_figures(reader.page)
    return reader.page


async def wait_for_figures(page: Page) -> None:
    """Wait until the page shows what it was asked for."""
    await expect(page.locator("#content")).to_have_attribute("aria-busy", "false")


async def read_table(page: Page, name: str) -> Table:
    """A table's rows, without its head, the hidden ones too."""
    rows = cast("Table", await page.locator(f"#{name}").evaluate(READ_TABLE))
    return rows[1:]


def format_fixed(number: float, digits: int) -> str:
    """A number with so many digits after the point, halves away from zero as JavaScript rounds them."""
    return str(Decimal(number).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def format_usd(usd: float) -> str:
    return f"−{number_formatting.format_usd(-usd)}" if usd < 0 else number_formatting.format_usd(usd)


def format_cost(sums: dict[str, Any]) -> str:
    if not sums["unpriced"]:
        return format_usd(sums["totalCost"])
    return f"≥ {format_usd(sums['totalCost'])}" if sums["totalCost"] else "unknown"


def format_integer(number: float) -> str:
    return f"{number:,}"


def format_seconds(s: float | None) -> str:
    if s is None:
        return "–"
    return f"{format_fixed(s * 1000, 0)} ms" if s < 1 else f"{format_fixed(s, 2 if s < 10 else 1)} s"


def format_percent(part: float) -> str:
    return f"{format_fixed(100 * part, 1 if abs(part) < 0.1 else 0)} %"


def format_day(text: str) -> str:
    """`2026-11-20` as `20 Nov`, `2026-11` as `Nov 2026`."""
    year, month, *rest = text.split("-")
    return f"{int(rest[0])} {MONTHS[int(month) - 1]}" if rest else f"{MONTHS[int(month) - 1]} {year}"


@dataclass(frozen=True)
class ExpectedUsagePage:
    """What the page must show of a ledger, from `since` to `until`, by `day` or `month`, with filters."""

    ledger: ReferenceUsage
    since: str
    until: str
    per: str = "day"
    only: tuple[tuple[str, str], ...] = ()

    @property
    def filters(self) -> dict[str, str]:
        return {"since": self.since, "until": self.until, **dict(self.only)}

    @property
    def periods(self) -> list[str]:
        """The days or months, the newest first."""
        first, last = date.fromisoformat(self.since), date.fromisoformat(self.until)
        days = [str(first + timedelta(days=n)) for n in range((last - first).days + 1)]
        return list(reversed(days if self.per == "day" else dict.fromkeys(each[:7] for each in days)))

    def totals_for(self, step: str, **more: str) -> dict[str, Any]:
        """The sums of a day or month."""
        return self.ledger.totals(**(self.filters | {self.per: step} | more))

    def figures(self) -> list[str]:
        totals = self.ledger.totals(**self.filters)
        return [
            format_cost(totals),
            format_usd(self.ledger.cache_savings(**self.filters)),
            format_integer(totals["calls"]),
            format_seconds(self.ledger.latency_percentiles(**self.filters)["p50"]),
            format_percent(totals["errors"] / totals["calls"]) if totals["calls"] else "–",
        ]

    def notes(self) -> Iterable[str]:
        """What stands below the figures, apart from the comparison with the time before."""
        totals, waits = self.ledger.totals(**self.filters), self.ledger.latency_percentiles(**self.filters)
        read, fresh, written = (totals[name] for name in ("cacheReadTokens", "inputTokens", "cacheCreationTokens"))
        yield (
            f"{format_percent(read / (read + fresh + written))} of input was cached" if read + fresh + written else ""
        )
        yield f"p90 {format_seconds(waits['p90'])}, p99 {format_seconds(waits['p99'])}"
        errors, retries = totals["errors"], totals["retries"]
        yield (f"{format_integer(errors)} failed, {format_integer(retries)} retr{'y' if retries == 1 else 'ies'}")

    def spend(self, colours: int = 5) -> Table:
        models = self.ledger.values_by_cost("model", **self.filters)
        named = models if len(models) <= colours else models[: colours - 1]
        rows: Table = []
        for step in self.periods:
            complete, parts = (
                self.totals_for(step),
                [self.totals_for(step, model=model)["totalCost"] for model in models],
            )
            shown = parts[: len(named)] + ([sum(parts[len(named) :])] if len(named) < len(models) else [])
            rows.append([format_day(step), *(format_usd(part) for part in shown), format_cost(complete)])
        return rows

    def tokens(self) -> Table:
        kinds = ("cacheReadTokens", "inputTokens", "cacheCreationTokens", "outputTokens", "totalTokens")
        sums = {step: self.totals_for(step) for step in self.periods}
        return [[format_day(step), *(format_integer(sums[step][kind]) for kind in kinds)] for step in self.periods]

    def ttft(self) -> Table:
        waits = {step: self.ledger.latency_percentiles(**(self.filters | {self.per: step})) for step in self.periods}
        return [
            [format_day(step), *(format_seconds(waits[step][name]) for name in ("p50", "p90", "p99"))]
            for step in self.periods
        ]

    def error_rows(self) -> Table:
        rows: Table = []
        for step in self.periods:
            sums = self.totals_for(step)
            failed = format_percent(sums["errors"] / sums["calls"]) if sums["calls"] else "–"
            cells = [format_integer(sums[name]) for name in ("calls", "requests", "errors", "retries")]
            rows.append([format_day(step), *cells, failed])
        return rows

    def legends(self) -> dict[str, list[str]]:
        """The totals beside the names of the series, where no model is left to `others`."""
        totals, waits = self.ledger.totals(**self.filters), self.ledger.latency_percentiles(**self.filters)
        models = [
            self.ledger.totals(**(self.filters | {"model": name}))
            for name in self.ledger.values_by_cost("model", **self.filters)
        ]
        kinds = ("cacheReadTokens", "inputTokens", "cacheCreationTokens", "outputTokens")
        return {
            "spend": [format_cost(each) for each in models],
            "tokens": [number_formatting.format_tokens(totals[kind]) for kind in kinds],
            "ttft": [format_seconds(waits[name]) for name in ("p50", "p90", "p99")],
            "failures": [format_integer(totals["retries"]), format_integer(totals["errors"])],
        }

    def shares(self, key: str) -> Table:
        named = [
            (name, self.ledger.totals(**(self.filters | {key: name})))
            for name in self.ledger.values_by_cost(key, **self.filters)
        ]
        return [[name, "", format_integer(sums["calls"]), format_cost(sums)] for name, sums in named]
