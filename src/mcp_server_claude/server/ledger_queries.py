"""Spending and budgets as tools show them, read from the store.

Imported by the first tool that needs it, after the client's handshake: it needs the database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mcp_server_claude.engine.spending_limit import current_budget_day, next_budget_day
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import budget_reservations, request_ledger, store_errors_as
from mcp_server_claude.store.usage import usage_report
from mcp_server_claude.store.usage.usage_query import UsageQuery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.store import Transaction
    from mcp_server_claude.store.request_ledger import UsageSummary
    from mcp_server_claude.store.usage.usage_report import UsageReport
    from mcp_server_claude.users.user import User

LEDGER_FAILURE = "The ledger could not be read"


@frozen_dataclass(kw_only=True)
class SpendingSummary:
    """Spending by model, by user and in total."""

    by_model: Sequence[UsageSummary]
    by_user: Sequence[UsageSummary]
    total: UsageSummary


@frozen_dataclass(kw_only=True)
class DailyBudget:
    """A budget of a UTC day in US dollars, and what is left of it with with running calls at their maximum cost."""

    owner: str
    usd_per_day: float
    left_usd: float


async def read_spending(services: ServiceAccess, since: float, user: str | None) -> SpendingSummary:
    """Spending of a user, or of everybody, since a moment in unix seconds.

    Raises:
        ConfigurationError: The ledger could not be read.
    """
    with store_errors_as(LEDGER_FAILURE):
        return await services.store.read(_summarize_spending, since, user)


async def read_budgets(services: ServiceAccess, user: User) -> tuple[list[DailyBudget], datetime]:
    """The budgets that a user may see, and the moment at which they reset: their own, or all for an operator.

    Raises:
        ConfigurationError: The ledger could not be read.
    """
    caps = await _visible_budgets(services, user)
    with store_errors_as(LEDGER_FAILURE):
        left = await services.store.read(_dollars_left, caps, current_budget_day()) if caps else {}
    budgets = [DailyBudget(owner=owner, usd_per_day=cap, left_usd=left[scope]) for scope, (owner, cap) in caps.items()]
    return budgets, next_budget_day()


async def read_daily_usage(services: ServiceAccess, user: User, days: int) -> UsageReport:
    """A user's usage of the latest UTC days, today included.

    Raises:
        ConfigurationError: The ledger could not be read.
    """
    today = datetime.now(UTC).date()
    query = UsageQuery(since=today - timedelta(days=days - 1), until=today, user=user.name)
    with store_errors_as(LEDGER_FAILURE):
        return await services.store.read(usage_report.build_report, query)


def _summarize_spending(tx: Transaction, since: float, user: str | None) -> SpendingSummary:
    (total,) = request_ledger.summarize_usage(tx, since, user=user, by=())
    return SpendingSummary(
        by_model=request_ledger.summarize_usage(tx, since, user=user),
        by_user=request_ledger.summarize_usage(tx, since, user=user, by=("user",)),
        total=total,
    )


async def _visible_budgets(services: ServiceAccess, user: User) -> dict[str, tuple[str, float]]:
    """The budgets that a user may see, by scope: the owner, and the dollars of a day."""
    users, caps = [user], dict[str, tuple[str, float]]()
    if user.role == "operator":
        if services.settings.budget_usd_per_day is not None:
            caps[budget_reservations.TOTAL_SCOPE] = ("everybody", services.settings.budget_usd_per_day)
        users += [each.user for each in await services.users.list_users()]
    for each in users:
        if each.limits.usd_per_day is not None:
            caps[budget_reservations.user_scope(each.name)] = (each.name, each.limits.usd_per_day)
    return caps


def _dollars_left(tx: Transaction, budgets: Mapping[str, tuple[str, float]], day: str) -> dict[str, float]:
    return {
        scope: budget_reservations.remaining_micros(tx, scope, day, round(cap * 1e6)) / 1e6
        for scope, (_, cap) in budgets.items()
    }
