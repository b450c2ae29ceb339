"""The tool that the panel polls: a call's text from an offset on, the latest calls and jobs, spending by day.

It is for the panel alone (`visibility: ["app"]`), since MCP Apps forwards no progress to a page.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from mcp_server_claude import number_formatting
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server.strict_tool import READ_ONLY_HINTS, StrictTool
from mcp_server_claude.server.tool_dependencies import ServicesDep, UserDep

if TYPE_CHECKING:
    from mcp_server_claude.calls.running_calls import CallSnapshot
    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.store.call_journal import JournaledCall
    from mcp_server_claude.store.usage.usage_report import UsageReport
    from mcp_server_claude.users.user import User

PANEL_URI = "ui://claude/panel.html"
PANEL_TOOL = "claude_panel"
PANEL_META: dict[str, Any] = {"ui": {"resourceUri": PANEL_URI}}
"""In a tool's `_meta`: hosts with MCP Apps show the panel beside its calls."""

MAX_TEXT_CHARS = 60_000
"""Characters of a call's text in one answer; the panel asks for the rest."""
MAX_PANEL_JOBS = 10
MAX_USAGE_DAYS = 365


async def claude_panel(
    call: Annotated[str, Field(description="A call's id (c_…): its text. None: the overview.")] = "",
    offset: Annotated[int, Field(description="The first character of the text.", ge=0)] = 0,
    days: Annotated[int, Field(description="Days of spending in the overview.", ge=1, le=MAX_USAGE_DAYS)] = 30,
    *,
    services: ServicesDep,
    user: UserDep,
) -> CallToolResult:
    """Data of the panel."""
    data = await _call_data(services, user, call, offset) if call else await _overview(services, user, days)
    return CallToolResult(
        content=[TextContent(type="text", text="Data of the panel.")],
        structured_content=data,
    )


async def _call_data(services: ServiceAccess, user: User, call_id: str, offset: int) -> dict[str, object]:
    snapshot = await services.calls.read_call(call_id, user.name)
    return {"call": {**_call_fields(snapshot.record), **_text_fields(snapshot, offset)}}


def _text_fields(snapshot: CallSnapshot, offset: int) -> dict[str, object]:
    text = snapshot.text[offset : offset + MAX_TEXT_CHARS]
    return {
        "text": replace_lone_surrogates(text),
        "offset": offset,
        "next": offset + len(text),
        "chars": len(snapshot.text),
    }


async def _overview(services: ServiceAccess, user: User, days: int) -> dict[str, object]:
    from mcp_server_claude.server.ledger_queries import read_daily_usage

    report = await read_daily_usage(services, user, days)
    calls = await services.calls.latest_calls(user.name)
    jobs = await services.jobs.latest_jobs(user.name, MAX_PANEL_JOBS)
    return {
        "calls": [_call_fields(record) for record in calls],
        "jobs": [job.as_json() for job in jobs],
        "usage": _spending_fields(report),
    }


def _call_fields(record: JournaledCall) -> dict[str, object]:
    usage = record.usage or {}
    return {
        "id": record.id,
        "tool": record.tool,
        "model": record.model,
        "prompt": replace_lone_surrogates(record.prompt_head),
        "state": "running" if record.state == "open" else str(record.end or "failed"),
        "incomplete": record.incomplete,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "cost_usd": usage.get("cost_usd"),
    }


def _spending_fields(report: UsageReport) -> dict[str, object]:
    """Dollars of each model on each day. `unpriced` requests have no known price and are in no sum."""
    by_day = report.model_totals_by("day")
    models = sorted({model for sums in by_day.values() for model in sums})
    days = [day.isoformat() for day in report.query.days]
    totals = report.totals
    return {
        "days": days,
        "models": [{"model": model, "usd": [_usd(by_day.get(day, {}).get(model)) for day in days]} for model in models],
        "total": number_formatting.format_usd(totals.cost_micros / 1e6),
        "requests": totals.requests,
        "unpriced": totals.unpriced,
    }


def _usd(sums: Any) -> float:
    return 0.0 if sums is None else sums.cost_micros / 1e6


def panel_tool() -> StrictTool:
    """A copy of the tool that a server owns; `hide_panel_without_apps` leaves it out of the list of other clients."""
    return _panel_prototype().model_copy()


@cache
def _panel_prototype() -> StrictTool:
    return StrictTool.for_function(
        claude_panel,
        title="Data of the panel",
        annotations=ToolAnnotations(title="Data of the panel", open_world_hint=False, **READ_ONLY_HINTS),
        meta={"ui": {"resourceUri": PANEL_URI, "visibility": ["app"]}},
    )
