"""`claude_ask`: hand a question to Claude and have the answer streamed back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from mcp.server.elicitation import ElicitationResult
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.types import CallToolResult, ToolAnnotations

from mcp_server_claude import number_formatting
from mcp_server_claude.call_types import Effort, ToolName
from mcp_server_claude.calls import ask_request, spending_approvals
from mcp_server_claude.errors import CallError
from mcp_server_claude.jobs.call_spec import approval_digest
from mcp_server_claude.server import job_results, spending_confirmation, tool_results
from mcp_server_claude.server.client_quirks import detach_delay_s
from mcp_server_claude.server.panel.panel_tool import PANEL_META
from mcp_server_claude.server.progress_notifications import progress_reporter
from mcp_server_claude.server.spending_confirmation import SpendingApproval
from mcp_server_claude.server.strict_tool import READ_ONLY_HINTS, RESULT_META, StrictTool
from mcp_server_claude.server.task_state import TaskResult
from mcp_server_claude.server.tool_dependencies import CallerDep, ServicesDep
from mcp_server_claude.services.service_access import ServiceAccess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.engine.cost_estimate import CostEstimate


LOADING_STAGE = "loading the client of the API"
"""The status of the first call over stdio, while the SDK is imported."""


async def confirm_ask(  # the arguments of the tool, by their names
    ctx: Context[ServiceAccess],
    services: ServicesDep,
    caller: CallerDep,
    prompt: str,
    model: str,
    effort: Effort,
    system: str,
    max_tokens: int,
    max_usd: float,
    files: list[str],
    schema: dict[str, object],
    tools: list[ToolName],
    thread: str,
    batch: bool,  # noqa: FBT001
    dry_run: bool,  # noqa: FBT001
) -> Elicit[SpendingApproval] | SpendingApproval:
    """Ask the user to approve the cost of a question, where the settings say so."""
    if dry_run or services.settings.confirm_above_usd is None:
        return spending_confirmation.APPROVED
    call = await ask_request.build_call(
        caller.origin("claude_ask"),
        prompt=prompt,
        model=model,
        effort=effort,
        system=system,
        max_tokens=max_tokens,
        max_usd=max_usd,
        files=files,
        schema=schema,
        tools=tools,
        thread=thread,
        batch=batch,
    )
    digest = approval_digest(call)
    if (question := await spending_confirmation.pending_question(services, ctx, digest)) is not None:
        return question
    _ = services.calls  # an invalid setting is an error before the user is asked
    estimates = [each.max_usd for each in await services.threads.estimate_call_cost(call)]
    return await spending_confirmation.ask_user(
        services, ctx, digest, spending_approvals.highest_cost(estimates, max_usd)
    )


async def claude_ask(
    prompt: ask_request.PromptParam,
    model: ask_request.ModelParam = "",
    effort: ask_request.EffortParam = "",
    system: ask_request.SystemParam = "",
    max_tokens: ask_request.MaxTokensParam = 0,
    max_usd: ask_request.MaxUsdParam = 0,
    files: ask_request.FilesParam = [],  # noqa: B006 - pydantic copies defaults
    schema: ask_request.SchemaParam = {},  # noqa: B006 - pydantic copies defaults
    tools: ask_request.ToolsParam = [],  # noqa: B006 - pydantic copies defaults
    thread: ask_request.ThreadParam = "",
    background: ask_request.BackgroundParam = False,  # noqa: FBT002
    batch: ask_request.BatchParam = False,  # noqa: FBT002
    dry_run: ask_request.DryRunParam = False,  # noqa: FBT002
    *,
    services: ServicesDep,
    caller: CallerDep,
    approval: Annotated[ElicitationResult[SpendingApproval], Resolve(confirm_ask)],
) -> CallToolResult:
    """Ask another Claude: a second opinion, a review, a long read, a draft. A fresh context answers the prompt alone.

    The answer streams as progress and returns as text, with one line on model, tokens, cost and time. A last block that
    begins INCOMPLETE: says why an answer was cut and how to continue.
    """
    call = await ask_request.build_call(
        caller.origin("claude_ask"),
        prompt=prompt,
        model=model,
        effort=effort,
        system=system,
        max_tokens=max_tokens,
        max_usd=max_usd,
        files=files,
        schema=schema,
        tools=tools,
        thread=thread,
        batch=batch,
    )
    jobs = services.calls
    if dry_run:
        return tool_results.text_result(_cost_table(await services.threads.estimate_call_cost(call), tools))
    await spending_confirmation.check_approval(services, approval, call)
    if background or batch:
        return job_results.started_result(await services.jobs.start_ask(call))
    detach_s = detach_delay_s(services.settings.detach_after_s, caller.traits, accepts_tasks=caller.accepts_tasks)
    stage = "starting" if services.has_client else LOADING_STAGE
    try:
        async with progress_reporter(
            caller.send_progress, caller.style, services.settings, first_stage=stage
        ) as progress:
            reply = await jobs.run_call(call, progress.queue_event, detach_delay_s=detach_s)
    except CallError:
        jobs.mark_delivered(call.id)  # its sentence is all that there will be
        raise
    if reply.job_id and caller.accepts_tasks:
        return TaskResult(task_id=reply.job_id)
    limit = services.settings.inline_limit(client_truncates=caller.truncates_results)
    if limit is None or len(reply.text) <= limit:
        jobs.mark_delivered(call.id)
    return tool_results.reply_result(reply, with_footer=services.settings.footer, limit=limit)


def ask_tool() -> StrictTool:
    """The tool as clients see it."""
    return StrictTool.for_function(
        claude_ask,
        title="Ask Claude",
        annotations=ToolAnnotations(title="Ask Claude", open_world_hint=True, **READ_ONLY_HINTS),
        meta=RESULT_META
        | PANEL_META
        | {"anthropic/alwaysLoad": True, "anthropic/searchHint": "ask claude delegate second opinion review"},
    )


def _cost_table(quotes: Sequence[CostEstimate], tools: Sequence[ToolName]) -> str:
    """The estimated cost of a call as a small table."""
    from mcp_server_claude.engine.cost_estimate import (
        SHORT_ANSWER_TOKENS,  # not before the client's handshake is answered
    )

    rows = [
        (
            each.variant,
            each.model,
            f"{'at most ' if each.estimated else ''}{number_formatting.format_tokens(each.input_tokens)}",
            number_formatting.format_usd(each.input_usd),
            number_formatting.format_usd(each.typical_usd),
            number_formatting.format_usd(each.max_usd)
            + f" ({number_formatting.format_tokens(each.max_tokens)} tokens)",
        )
        for each in quotes
    ]
    first = quotes[0]
    short = f"with {number_formatting.format_tokens(min(SHORT_ANSWER_TOKENS, first.max_tokens))} tokens of answer"
    longest = "with the longest answer" + (f" and {first.searches} searches" if first.searches else "")
    notes = ["Nothing was generated."]
    if "read" in tools:
        notes.append("Each time Claude looks into files, all that came before is sent again; that is not in here.")
    if any(each.max_usd is None for each in quotes):
        notes.append("`$?` means that the price is unknown.")
    table = tool_results.markdown_table(("way", "model", "input tokens", "input", short, longest), rows)
    return f"{table}\n\n{' '.join(notes)}"
