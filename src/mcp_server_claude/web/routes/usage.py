"""Usage reports: `GET /usage.json` for the page and for programs, `GET /usage.csv` for spreadsheets.

Fields that ccusage has carry its names. Days are UTC. A user sees their own usage, an operator everybody's.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Concatenate, ParamSpec, TypeAlias, TypeVar

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator
from pydantic.alias_generators import to_camel

from mcp_server_claude import pricing
from mcp_server_claude.csv_cells import escape_formula
from mcp_server_claude.errors import RequestError
from mcp_server_claude.services.service_access import ServiceAccess
from mcp_server_claude.store import Transaction, store_errors_as
from mcp_server_claude.store.usage import usage_report
from mcp_server_claude.store.usage.usage_query import UsageQuery
from mcp_server_claude.store.usage.usage_totals import CellKey, UsageTotals
from mcp_server_claude.web.openapi import BEARER_AUTH, openapi_errors
from mcp_server_claude.web.route_dependencies import ServicesDep, UserDep
from mcp_server_claude.web.routes.usage_json import StatementData, UsageResponse, usage_fields, usage_response

P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_DAYS = 30
MAX_DAYS = 1100
"""About three years."""
MIN_DATE, MAX_DATE = date(2000, 1, 1), date(2100, 1, 1)
ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
NUMBER_FIELDS = tuple(usage_fields(UsageTotals()))
CSV_HEADER = ("date", "user", "model", "tool", *map(to_camel, NUMBER_FIELDS))
"""The columns of the CSV."""

router = APIRouter(tags=["usage"], dependencies=[BEARER_AUTH])


def _check_date(text: object) -> object:
    """The date that a text names.

    Raises:
        ValueError: It names none.
    """
    if not isinstance(text, str):
        return text
    with suppress(ValueError):
        if ISO_DATE.fullmatch(text):
            return date.fromisoformat(text)
    raise ValueError("must be a date such as 2026-11-01")


DateParameter: TypeAlias = Annotated[date | None, BeforeValidator(_check_date)]


def parse_usage_query(
    user: UserDep,
    since: Annotated[DateParameter, Query(description="The first day (UTC), e.g. 2026-11-01.")] = None,
    until: Annotated[DateParameter, Query(description="The last day; today by default.")] = None,
    days: Annotated[
        int | None, Query(ge=1, le=MAX_DAYS, description="The number of days up to `until`, instead of `since`.")
    ] = None,
    user_name: Annotated[
        str,
        Query(alias="user", max_length=200, description="Only this user's usage. Only operators can name others."),
    ] = "",
    model: Annotated[str, Query(max_length=200, description="Only this model's usage.")] = "",
    tool: Annotated[str, Query(max_length=200, description="Only usage through this tool, or `chat`.")] = "",
    job: Annotated[str, Query(max_length=200, description="Only the requests of this job, e.g. j_….")] = "",
) -> UsageQuery:
    """The range and filters of the query parameters.

    Raises:
        RequestError: They contradict each other, or name another user than the caller.
    """
    if since is not None and days is not None:
        raise RequestError("Give since or days, not both.")
    if user.role != "operator" and user_name not in {"", user.name}:
        raise RequestError("Only operators can see the usage of other users.", kind="forbidden")
    if not all(MIN_DATE <= each <= MAX_DATE for each in (since, until) if each is not None):
        raise RequestError(f"since and until must lie between {MIN_DATE} and {MAX_DATE}.")
    last = until or max(_utc_today(), since or MIN_DATE)
    first = since or last - timedelta(days=(days or DEFAULT_DAYS) - 1)
    if first > last:
        raise RequestError("since must not be later than until.")
    if (last - first).days >= MAX_DAYS:
        raise RequestError(f"The range is longer than {MAX_DAYS} days. Choose a shorter one.")
    user_filter = user_name if user.role == "operator" else user.name
    return UsageQuery(
        since=first,
        until=last,
        user=user_filter or None,
        model=model or None,
        tool=tool or None,
        job=job or None,
    )


UsageQueryDep: TypeAlias = Annotated[UsageQuery, Depends(parse_usage_query)]
USAGE_ERRORS = openapi_errors(422)


@router.get("/usage.json", responses=USAGE_ERRORS, summary="Usage report")
async def get_usage_json(query: UsageQueryDep, services: ServicesDep, user: UserDep) -> UsageResponse:
    """Usage by day, month, model, user and tool, with totals. The last 30 days by default."""
    an_hour = services.settings.cache == "1h"
    data = await _read_ledger(services, _read_statement_data, query, an_hour=an_hour, operator=user.role == "operator")
    return usage_response(data)


@router.get(
    "/usage.csv",
    response_class=StreamingResponse,
    responses={
        200: {"description": "A row per day, user, model and tool.", "content": {"text/csv": {}}},
        **USAGE_ERRORS,
    },
    summary="Usage report as CSV",
)
async def get_usage_csv(query: UsageQueryDep, services: ServicesDep) -> StreamingResponse:
    """The usage report as rows for a spreadsheet: per day, user, model and tool."""
    days = [replace(query, since=day, until=day) for day in query.days]
    first = await _read_ledger(
        services, usage_report.detail_rows, days[0]
    )  # if the ledger cannot be read, the response is still an error

    async def lines() -> AsyncIterator[str]:
        yield format_csv([CSV_HEADER]) + format_csv(map(_csv_row, first.items()))
        for day in days[1:]:  # a day at a time, so that memory stays small
            if found := await _read_ledger(services, usage_report.detail_rows, day):
                yield format_csv(map(_csv_row, found.items()))

    name = f"usage-{query.since}-{query.until}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)


def format_csv(rows: Iterable[Iterable[str | int | float]]) -> str:
    """Rows as CSV. Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    text = io.StringIO()
    csv.writer(text).writerows([escape_formula(cell) for cell in row] for row in rows)
    return text.getvalue()


def _csv_row(row: tuple[CellKey, UsageTotals]) -> list[str | int | float]:
    (day, model, tool, user), sums = row
    numbers = usage_fields(sums)
    return [day, user, model, tool, *(numbers[name] for name in NUMBER_FIELDS)]


def _read_statement_data(tx: Transaction, query: UsageQuery, *, an_hour: bool, operator: bool) -> StatementData:
    """Read the data of a usage response, in one transaction on the store's thread."""
    return StatementData(
        report=usage_report.build_report(tx, query, cached_for_an_hour=an_hour),
        pricing_as_of=pricing.price_list_version(),
        users=usage_report.user_names(tx) if operator else [],
    )


async def _read_ledger(
    services: ServiceAccess, job: Callable[Concatenate[Transaction, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a read-only operation on the ledger.

    Raises:
        ConfigurationError: The ledger cannot be read.
    """
    store = services.store
    with store_errors_as("The ledger could not be read"):
        return await store.read_slow(job, *args, **kwargs)


def _utc_today() -> date:
    return datetime.now(UTC).date()
