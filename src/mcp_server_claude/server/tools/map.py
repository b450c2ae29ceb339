"""`claude_map`: one prompt over many items, in a job that survives the client and the server."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from mcp.server.elicitation import ElicitationResult
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.types import CallToolResult, ToolAnnotations

from mcp_server_claude.call_types import Effort
from mcp_server_claude.calls import ask_request, spending_approvals
from mcp_server_claude.jobs.call_spec import approval_digest
from mcp_server_claude.server import job_progress_reports, job_results, spending_confirmation, tool_results
from mcp_server_claude.server.client_quirks import detach_delay_s
from mcp_server_claude.server.panel.panel_tool import PANEL_META
from mcp_server_claude.server.spending_confirmation import SpendingApproval
from mcp_server_claude.server.strict_tool import RESULT_META, StrictTool
from mcp_server_claude.server.task_state import TaskResult
from mcp_server_claude.server.tool_dependencies import CallerDep, ServicesDep
from mcp_server_claude.services.service_access import ServiceAccess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.call_types import Call
    from mcp_server_claude.jobs.map_estimates import MapEstimates
    from mcp_server_claude.jobs.map_jobs import MapRequest

ESTIMATE_KEY = "mcp-server-claude/estimate"
MAX_LISTED_ITEMS = 1_000
"""Items whose prices are listed in a result."""


async def confirm_map(  # the arguments of the tool, by their names
    ctx: Context[ServiceAccess],
    services: ServicesDep,
    caller: CallerDep,
    prompt: str,
    items: list[object],
    output: str,
    model: str,
    effort: Effort,
    system: str,
    schema: dict[str, object],
    max_usd: float,
    batch: bool,  # noqa: FBT001
    dry_run: bool,  # noqa: FBT001
) -> Elicit[SpendingApproval] | SpendingApproval:
    """Ask the user to approve the cost of a job, where the settings say so."""
    if dry_run or services.settings.confirm_above_usd is None:
        return spending_confirmation.APPROVED
    template = await ask_request.build_call(
        caller.origin("claude_map"),
        prompt=prompt,
        model=model,
        effort=effort,
        system=system,
        schema=schema,
        batch=batch,
    )
    digest = approval_digest(template, items, output, max_usd)
    if (question := await spending_confirmation.pending_question(services, ctx, digest)) is not None:
        return question
    prices = (await services.jobs.estimate_map(_map_request(template, items, output, max_usd))).variants
    return await spending_confirmation.ask_user(
        services, ctx, digest, spending_approvals.highest_cost([each.max_usd for each in prices], max_usd)
    )


async def claude_map(
    prompt: ask_request.TemplateParam,
    items: ask_request.ItemsParam,
    output: ask_request.OutputParam = "",
    model: ask_request.ModelParam = "",
    effort: ask_request.EffortParam = "",
    system: ask_request.SystemParam = "",
    schema: ask_request.ItemSchemaParam = {},  # noqa: B006 - pydantic copies defaults
    max_usd: ask_request.JobMaxUsdParam = 0,
    batch: ask_request.BatchParam = False,  # noqa: FBT002
    dry_run: ask_request.DryRunParam = False,  # noqa: FBT002
    *,
    services: ServicesDep,
    caller: CallerDep,
    approval: Annotated[ElicitationResult[SpendingApproval], Resolve(confirm_map)],
) -> CallToolResult:
    """Ask the same for many items in parallel, each in a fresh context. The answers go into a file, in order.

    The result is a summary. The work is a job (see claude_jobs), which the same call again continues.
    """
    template = await ask_request.build_call(
        caller.origin("claude_map"),
        prompt=prompt,
        model=model,
        effort=effort,
        system=system,
        schema=schema,
        batch=batch,
    )
    request = _map_request(template, items, output, max_usd)
    jobs = services.jobs
    if dry_run:
        return _estimate_result(await jobs.estimate_map(request))
    await spending_confirmation.check_approval(services, approval, template, items, output, max_usd)
    job_id = (await jobs.start_map(request)).record.id
    delay_s = detach_delay_s(services.settings.detach_after_s, caller.traits, accepts_tasks=caller.accepts_tasks)
    await job_progress_reports.wait_for_job(jobs, job_id, caller, services.settings, delay_s or math.inf)
    snapshot = await jobs.read_job(job_id, caller.user.name)
    if caller.accepts_tasks and not snapshot.is_closed:
        return TaskResult(task_id=job_id)
    return await job_results.job_result(jobs, snapshot)


def map_tool() -> StrictTool:
    """The tool as the server registers it."""
    return StrictTool.for_function(
        claude_map,
        title="Claude: one prompt over many items",
        annotations=ToolAnnotations(
            title="Claude map",
            read_only_hint=False,
            destructive_hint=False,
            idempotent_hint=True,
            open_world_hint=True,
        ),
        meta=RESULT_META
        | PANEL_META
        | {"anthropic/searchHint": "claude map batch bulk many items rows files extract classify"},
    )


def _map_request(template: Call, items: Sequence[object], output: str, max_usd: float) -> MapRequest:
    from mcp_server_claude.jobs.map_jobs import MapRequest  # not before the client's handshake is answered

    return MapRequest(template=template, items=items, output=output, max_usd=max_usd)


def _estimate_result(estimates: MapEstimates) -> CallToolResult:
    """The estimate as a table, and each of the first items for a program."""
    header, *rows = estimates.table()
    table = tool_results.markdown_table(header, rows)
    result = tool_results.text_result(f"{table}\n\n{' '.join(estimates.notes())}")
    meta = {ESTIMATE_KEY: estimates.as_json(MAX_LISTED_ITEMS)}
    return CallToolResult(content=result.content, _meta=meta)
