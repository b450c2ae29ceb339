"""What was used and spent: `GET /usage.json` for the page and for programs, `GET /usage.csv` for a spreadsheet.

The names are those of ccusage where it has them. Days are UTC. A user sees what is theirs, an operator everything.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Concatenate, ParamSpec, TypeAlias, TypeVar

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BeforeValidator
from pydantic.alias_generators import to_camel

from mcp_server_claude import pricing
from mcp_server_claude.errors import Misconfigured, Refused
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.store import StoreError, Tx
from mcp_server_claude.store.usage import usage_report
from mcp_server_claude.store.usage.usage_report import Range, Sums
from mcp_server_claude.web.openapi import BEARER, problems
from mcp_server_claude.web.route_dependencies import TheServices, TheUser
from mcp_server_claude.web.routes.usage_json import Account, Usage, statement, used

P = ParamSpec("P")
T = TypeVar("T")

USUAL_DAYS = 30
MOST_DAYS = 1100
"""Three years at once."""
FIRST, LAST = date(2000, 1, 1), date(2100, 1, 1)
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula (owasp.org, "CSV Injection")."""
NUMBERS = tuple(used(Sums()))
HEAD = ("date", "user", "model", "tool", *map(to_camel, NUMBERS))
"""The columns of the CSV."""

router = APIRouter(tags=["usage"], dependencies=[BEARER])


def _date(text: object) -> object:
    if isinstance(text, str) and not DATE.fullmatch(text):
        raise ValueError("must be a date such as 2026-11-01")
    return text


Moment: TypeAlias = Annotated[date | None, BeforeValidator(_date)]


def asked(
    user: TheUser,
    since: Annotated[Moment, Query(description="The first day (UTC), e.g. 2026-11-01.")] = None,
    until: Annotated[Moment, Query(description="The last day; today when it is not given.")] = None,
    days: Annotated[
        int | None, Query(ge=1, le=MOST_DAYS, description="How many days up to `until`, instead of `since`.")
    ] = None,
    of: Annotated[
        str, Query(alias="user", max_length=200, description="Only this user's. Another's is for operators.")
    ] = "",
    model: Annotated[str, Query(max_length=200, description="Only this model.")] = "",
    tool: Annotated[str, Query(max_length=200, description="Only what came in through this tool, or `chat`.")] = "",
) -> Range:
    """The range that the query's parameters mean.

    Raises:
        Refused: They contradict each other, or ask for what is another's.
    """
    if since is not None and days is not None:
        raise Refused("Give since or days, not both.")
    if user.role != "operator" and of not in {"", user.name}:
        raise Refused("Only an operator sees what others used.", kind="forbidden")
    if not all(FIRST <= each <= LAST for each in (since, until) if each is not None):
        raise Refused(f"since and until must lie between {FIRST} and {LAST}.")
    last = until or max(_today(), since or FIRST)
    first = since or last - timedelta(days=(days or USUAL_DAYS) - 1)
    if first > last:
        raise Refused("since must not be later than until.")
    if (last - first).days >= MOST_DAYS:
        raise Refused(f"That is more than {MOST_DAYS} days. Ask for a shorter time.")
    whose = of if user.role == "operator" else user.name
    return Range(since=first, until=last, user=whose or None, model=model or None, tool=tool or None)


Asked: TypeAlias = Annotated[Range, Depends(asked)]
PROBLEMS = problems(422)


@router.get("/usage.json", responses=PROBLEMS, summary="What was used")
async def usage_json(asked_for: Asked, services: TheServices, user: TheUser) -> Usage:
    """What was used: by day, month, model, user and tool, with totals. The last 30 days when no time is given."""
    an_hour = services.settings.cache == "1h"
    account = await _reported(services, _account, asked_for, an_hour=an_hour, operator=user.role == "operator")
    return statement(account)


@router.get(
    "/usage.csv",
    response_class=StreamingResponse,
    responses={200: {"description": "A line per day, user, model and tool.", "content": {"text/csv": {}}}, **PROBLEMS},
    summary="What was used, as CSV",
)
async def usage_csv(asked_for: Asked, services: TheServices) -> StreamingResponse:
    """The same as lines for a spreadsheet: per day, user, model and tool."""
    days = [replace(asked_for, since=day, until=day) for day in asked_for.days]
    first = await _reported(services, usage_report.rows, days[0])  # a ledger that cannot be read is still a plain error

    async def lines() -> AsyncIterator[str]:
        yield as_csv([HEAD]) + as_csv(map(_line, first.items()))
        for day in days[1:]:  # a day at a time, so that nothing large is held
            if found := await _reported(services, usage_report.rows, day):
                yield as_csv(map(_line, found.items()))

    name = f"usage-{asked_for.since}-{asked_for.until}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)


def as_csv(rows: Iterable[Iterable[str | int | float]]) -> str:
    """Lines of CSV. A text that a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.StringIO()
    csv.writer(text).writerows([_inert(cell) for cell in row] for row in rows)
    return text.getvalue()


def _inert(cell: str | float) -> str | float:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _line(row: tuple[usage_report.Key, Sums]) -> list[str | int | float]:
    (day, model, tool, user), sums = row
    told = used(sums)
    return [day, user, model, tool, *(told[name] for name in NUMBERS)]


def _account(tx: Tx, asked_for: Range, *, an_hour: bool, operator: bool) -> Account:
    """On the store's thread: what a statement is made of."""
    return Account(
        report=usage_report.report(tx, asked_for, cached_for_an_hour=an_hour),
        pricing_as_of=pricing.as_of(),
        users=usage_report.users(tx) if operator else [],
    )


async def _reported(
    services: Services, job: Callable[Concatenate[Tx, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """What a job finds in the ledger.

    Raises:
        Misconfigured: The ledger cannot be read.
    """
    store = await services.store()
    try:
        return await store.report(job, *args, **kwargs)
    except StoreError as error:
        raise Misconfigured(f"The ledger could not be read: {error}", kind="ledger") from error


def _today() -> date:
    return datetime.now(UTC).date()
