"""A statement of what was used, as JSON: the names of ccusage where it has them, dollars, seconds, and UTC days."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from mcp_server_claude.store.usage.latency_percentiles import WHOLE
from mcp_server_claude.store.usage.usage_report import Sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mcp_server_claude.store.usage.latency_percentiles import Waits
    from mcp_server_claude.store.usage.usage_report import Report

MICROS = 1_000_000


class Shape(BaseModel):
    """JSON in camel case."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Tokens(Shape):
    """Tokens by kind."""

    input_tokens: int
    output_tokens: int
    cache_creation_tokens: int
    cache_read_tokens: int
    total_tokens: int


class Used(Tokens):
    """What some requests came to together."""

    total_cost: float = Field(description="US dollars.")
    calls: int = Field(description="Questions, each with all the requests that it took.")
    requests: int
    errors: int = Field(description="Requests that failed and were not tried again.")
    retries: int = Field(description="Requests that failed and were tried again.")
    unpriced: int = Field(description="Requests that `totalCost` lacks, since no price of their model is known.")


class Saving(Used):
    """With what the prompt cache saved."""

    cache_savings: float = Field(
        description="US dollars: what cached input would have cost as plain input, less what it cost to read and write."
    )


class Percentiles(Shape):
    """Seconds until the first text, over the requests that brought some; null where none did."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


class Timed(Saving):
    """With how long people waited."""

    ttft: Percentiles


class ModelPart(Tokens):
    """A model's part of a day or month."""

    model_name: str
    cost: float = Field(description="US dollars.")


class Split(Timed):
    """A day or a month, by model."""

    models_used: list[str]
    model_breakdowns: list[ModelPart]


class Day(Split):
    """A day (UTC). Every day of the range is there, also one without a request."""

    date: str


class Month(Split):
    """A month, as far as the range covers it."""

    month: str


class ByModel(Saving):
    """What a model was used for."""

    model: str


class ByTool(Saving):
    """What was asked through a tool of the MCP server, or `chat`."""

    tool: str


class ByUser(Used):
    """What a user asked."""

    user: str


class Previous(Shape):
    """As many days, just before."""

    since: str
    until: str
    total_cost: float
    calls: int


class Usage(Shape):
    """What was used in a range of days, both ends included. Lists by model, user and tool: the dearest first."""

    since: str
    until: str
    begins: str = Field(description="The first day of the whole ledger, empty where there is none.")
    user: str
    model: str
    tool: str
    pricing_as_of: str = Field(alias="pricing_as_of", description="The list prices behind `cacheSavings`.")
    daily: list[Day]
    monthly: list[Month]
    by_model: list[ByModel]
    by_user: list[ByUser]
    by_tool: list[ByTool]
    totals: Timed
    previous: Previous
    users: list[str] = Field(description="For an operator: everybody who ever asked.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What the store was asked for a statement, on one snapshot."""

    report: Report
    pricing_as_of: str
    users: list[str]


def statement(account: Account) -> Usage:
    """The statement of an account."""
    report = account.report
    asked, before = report.range, report.range.before()
    days = [each.isoformat() for each in asked.days]
    months = list(dict.fromkeys(day[:7] for day in days))
    return Usage(
        since=str(asked.since),
        until=str(asked.until),
        begins=report.begins,
        user=asked.user or "",
        model=asked.model or "",
        tool=asked.tool or "",
        pricing_as_of=account.pricing_as_of,
        daily=[Day(date=day, **split) for day, split in _splits(report, "day", days)],
        monthly=[Month(month=month, **split) for month, split in _splits(report, "month", months)],
        by_model=[ByModel(model=name, **_saving(sums)) for name, sums in _dearest(report.by("model"))],
        by_user=[ByUser(user=name, **used(sums)) for name, sums in _dearest(report.users)],
        by_tool=[ByTool(tool=name, **_saving(sums)) for name, sums in _dearest(report.by("tool"))],
        totals=Timed(**_saving(report.totals), ttft=_ttft(report.waits.get(WHOLE))),
        previous=Previous(
            since=str(before.since),
            until=str(before.until),
            total_cost=report.previous.cost_micros / MICROS,
            calls=report.previous.calls,
        ),
        users=account.users,
    )


def used(sums: Sums) -> dict[str, Any]:
    """The fields of `Used`, by their names in Python."""
    return _tokens(sums) | {
        "total_cost": sums.cost_micros / MICROS,
        "calls": sums.calls,
        "requests": sums.requests,
        "errors": sums.errors,
        "retries": sums.retries,
        "unpriced": sums.unpriced,
    }


def _tokens(sums: Sums) -> dict[str, Any]:
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


def _saving(sums: Sums) -> dict[str, Any]:
    return used(sums) | {"cache_savings": round(sums.saved_micros) / MICROS}


def _splits(report: Report, per: Literal["day", "month"], keys: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each day or month, also one without a request: the fields of `Split`."""
    whole, models = report.by(per), report.models_by(per)
    for key in keys:
        parts = _dearest(models.get(key, {}))
        yield (
            key,
            _saving(whole.get(key, Sums()))
            | {
                "ttft": _ttft(report.waits.get(key)),
                "models_used": [name for name, _ in parts],
                "model_breakdowns": [_part(name, sums) for name, sums in parts],
            },
        )


def _part(model: str, sums: Sums) -> ModelPart:
    return ModelPart(model_name=model, cost=sums.cost_micros / MICROS, **_tokens(sums))


def _ttft(waits: Waits | None) -> Percentiles:
    return Percentiles() if waits is None else Percentiles(**{name: ms / 1000 for name, ms in waits._asdict().items()})


def _dearest(parts: Mapping[str, Sums]) -> list[tuple[str, Sums]]:
    """The dearest first; what cost the same by name."""
    return sorted(parts.items(), key=lambda part: (-part[1].cost_micros, part[0]))
