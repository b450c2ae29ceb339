"""The JSON of a usage report: ccusage's field names where it has them, dollars, seconds, and UTC days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from mcp_server_claude.store.usage.latency_percentiles import WHOLE_RANGE
from mcp_server_claude.store.usage.usage_totals import UsageTotals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mcp_server_claude.store.usage.latency_percentiles import LatencyPercentiles
    from mcp_server_claude.store.usage.usage_report import UsageReport

MICROS_PER_USD = 1_000_000


class CamelCaseModel(BaseModel):
    """A model with JSON names in camel case."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class TokenTotals(CamelCaseModel):
    """Tokens by kind."""

    input_tokens: int
    output_tokens: int
    cache_creation_tokens: int
    cache_read_tokens: int
    total_tokens: int


class UsageFigures(TokenTotals):
    """The sums over some requests."""

    total_cost: float = Field(description="US dollars.")
    calls: int = Field(description="Questions, each with all its requests.")
    requests: int
    errors: int = Field(description="Requests that failed and were not retried.")
    retries: int = Field(description="Requests that failed and were retried.")
    unpriced: int = Field(description="Requests whose model has no known price; `totalCost` excludes them.")


class UsageWithSavings(UsageFigures):
    """Sums with the savings of the prompt cache."""

    cache_savings: float = Field(
        description="US dollars: the price of cached input as plain input, minus that of reading and writing the cache."
    )


class FirstTextPercentiles(CamelCaseModel):
    """Percentiles of the seconds to the first text, over the requests that produced text; null if none did."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


class UsageWithLatency(UsageWithSavings):
    """Sums with the time to the first text."""

    ttft: FirstTextPercentiles


class ModelBreakdown(TokenTotals):
    """One model's usage in a day or month."""

    model_name: str
    cost: float = Field(description="US dollars.")


class PeriodUsage(UsageWithLatency):
    """The usage of a day or a month, also by model."""

    models_used: list[str]
    model_breakdowns: list[ModelBreakdown]


class DailyUsage(PeriodUsage):
    """The usage of a day (UTC). The range has every day, also days without requests."""

    date: str


class MonthlyUsage(PeriodUsage):
    """The usage of a month, as far as the range covers it."""

    month: str


class UsageByModel(UsageWithSavings):
    """The usage of a model."""

    model: str


class UsageByTool(UsageWithSavings):
    """The usage through a tool of the MCP server, or `chat`."""

    tool: str


class UsageByUser(UsageFigures):
    """The usage of a user."""

    user: str


class UsageByProject(UsageFigures):
    """The usage of a project: `MCP_CLAUDE_PROJECT`, or the name of the directory of a server over stdio."""

    project: str


class PreviousPeriod(CamelCaseModel):
    """The same number of days before the range."""

    since: str
    until: str
    total_cost: float
    calls: int


class UsageResponse(CamelCaseModel):
    """The usage in a range of days, both ends included. Its lists are sorted by descending cost."""

    since: str
    until: str
    begins: str = Field(description="The first day of the whole ledger; empty if it has none.")
    user: str
    model: str
    tool: str
    pricing_as_of: str = Field(alias="pricing_as_of", description="The list prices behind `cacheSavings`.")
    daily: list[DailyUsage]
    monthly: list[MonthlyUsage]
    by_model: list[UsageByModel]
    by_user: list[UsageByUser]
    by_tool: list[UsageByTool]
    by_project: list[UsageByProject]
    totals: UsageWithLatency
    previous: PreviousPeriod
    users: list[str] = Field(description="For an operator: every user in the ledger.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementData:
    """The data of a usage response, read in one transaction."""

    report: UsageReport
    pricing_as_of: str
    users: list[str]


def usage_response(data: StatementData) -> UsageResponse:
    """Build the response from the data."""
    report = data.report
    query, before = report.query, report.query.preceding()
    days = [each.isoformat() for each in query.days]
    months = list(dict.fromkeys(day[:7] for day in days))
    return UsageResponse(
        since=str(query.since),
        until=str(query.until),
        begins=report.first_day,
        user=query.user or "",
        model=query.model or "",
        tool=query.tool or "",
        pricing_as_of=data.pricing_as_of,
        daily=[DailyUsage(date=day, **split) for day, split in _period_fields(report, "day", days)],
        monthly=[MonthlyUsage(month=month, **split) for month, split in _period_fields(report, "month", months)],
        by_model=[
            UsageByModel(model=name, **_fields_with_savings(sums))
            for name, sums in _by_descending_cost(report.totals_by("model"))
        ],
        by_user=[UsageByUser(user=name, **usage_fields(sums)) for name, sums in _by_descending_cost(report.users)],
        by_tool=[
            UsageByTool(tool=name, **_fields_with_savings(sums))
            for name, sums in _by_descending_cost(report.totals_by("tool"))
        ],
        by_project=[
            UsageByProject(project=name, **usage_fields(sums)) for name, sums in _by_descending_cost(report.projects)
        ],
        totals=UsageWithLatency(
            **_fields_with_savings(report.totals), ttft=_first_text_percentiles(report.latency.get(WHOLE_RANGE))
        ),
        previous=PreviousPeriod(
            since=str(before.since),
            until=str(before.until),
            total_cost=report.previous.cost_micros / MICROS_PER_USD,
            calls=report.previous.calls,
        ),
        users=data.users,
    )


def usage_fields(sums: UsageTotals) -> dict[str, Any]:
    """The fields of `UsageFigures`, by their names in Python."""
    return _token_fields(sums) | {
        "total_cost": sums.cost_micros / MICROS_PER_USD,
        "calls": sums.calls,
        "requests": sums.requests,
        "errors": sums.errors,
        "retries": sums.retries,
        "unpriced": sums.unpriced,
    }


def _token_fields(sums: UsageTotals) -> dict[str, Any]:
    return {
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
        "cache_creation_tokens": sums.cache_creation_input_tokens,
        "cache_read_tokens": sums.cache_read_input_tokens,
        "total_tokens": sums.input_tokens
        + sums.output_tokens
        + sums.cache_creation_input_tokens
        + sums.cache_read_input_tokens,
    }


def _fields_with_savings(sums: UsageTotals) -> dict[str, Any]:
    return usage_fields(sums) | {"cache_savings": round(sums.saved_micros) / MICROS_PER_USD}


def _period_fields(
    report: UsageReport, per: Literal["day", "month"], keys: Iterable[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The fields of `PeriodUsage` for each day or month, also those without requests."""
    whole, models = report.totals_by(per), report.model_totals_by(per)
    for key in keys:
        parts = _by_descending_cost(models.get(key, {}))
        yield (
            key,
            _fields_with_savings(whole.get(key, UsageTotals()))
            | {
                "ttft": _first_text_percentiles(report.latency.get(key)),
                "models_used": [name for name, _ in parts],
                "model_breakdowns": [_model_breakdown(name, sums) for name, sums in parts],
            },
        )


def _model_breakdown(model: str, sums: UsageTotals) -> ModelBreakdown:
    return ModelBreakdown(model_name=model, cost=sums.cost_micros / MICROS_PER_USD, **_token_fields(sums))


def _first_text_percentiles(waits: LatencyPercentiles | None) -> FirstTextPercentiles:
    return (
        FirstTextPercentiles()
        if waits is None
        else FirstTextPercentiles(**{name: ms / 1000 for name, ms in waits._asdict().items()})
    )


def _by_descending_cost(parts: Mapping[str, UsageTotals]) -> list[tuple[str, UsageTotals]]:
    """The entries by descending cost, then by name."""
    return sorted(parts.items(), key=lambda part: (-part[1].cost_micros, part[0]))
