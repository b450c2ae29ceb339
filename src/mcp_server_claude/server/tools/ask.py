"""`claude_ask`: hand a question to Claude and have the answer streamed back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import anyio.to_thread
from mcp.types import CallToolResult
from pydantic import Field

from mcp_server_claude import number_formatting, schemas
from mcp_server_claude.call_types import Call, Effort, ToolName
from mcp_server_claude.errors import CallError, RequestError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server import tool_results
from mcp_server_claude.server.progress_notifications import progress_reporter
from mcp_server_claude.server.tool_dependencies import CallerDep, ServicesDep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.engine.engine import CostEstimate


async def claude_ask(
    prompt: Annotated[
        str,
        Field(description="The question or task, with everything Claude needs: it sees nothing else.", min_length=1),
    ],
    model: Annotated[
        str,
        Field(description="A line (opus, sonnet, haiku, fable: its newest model) or an exact id."),
    ] = "",
    effort: Annotated[Effort, Field(description="How hard to think. Default: the model's own.")] = "",
    system: Annotated[str, Field(description="Role and rules for the answer.")] = "",
    max_tokens: Annotated[
        int, Field(description="Most tokens the answer may take. 0: the model's own limit.", ge=0, le=10_000_000)
    ] = 0,
    max_usd: Annotated[
        float, Field(description="Most dollars the answer may cost. 0: no limit.", ge=0, le=1_000_000)
    ] = 0,
    files: Annotated[
        list[str],
        Field(description="Paths or globs in the project, https URLs, data: URIs, file ids: text, code, PDF, images."),
    ] = [],  # noqa: B006 - pydantic copies defaults
    schema: Annotated[
        dict[str, object], Field(description="JSON Schema: the answer is JSON that is valid against it.")
    ] = {},  # noqa: B006 - pydantic copies defaults
    tools: Annotated[
        list[ToolName],
        Field(description="web: search and cite. code: run code, make files. read: look into the project's files."),
    ] = [],  # noqa: B006 - pydantic copies defaults
    thread: Annotated[
        str, Field(description="Go on with the conversation of an earlier answer: the id (t_…) in its last line.")
    ] = "",
    dry_run: Annotated[bool, Field(description="Only say what it would cost, and what alternatives would.")] = False,  # noqa: FBT002
    *,
    services: ServicesDep,
    caller: CallerDep,
) -> CallToolResult:
    """Ask another Claude: a second opinion, a review, a long read, a draft. A fresh context answers the prompt alone.

    The answer streams as progress and returns as text, with one line on model, tokens, cost and time. A last block that
    begins INCOMPLETE: says why an answer was cut and how to go on.
    """
    if not prompt.strip():
        raise RequestError("The prompt is empty. Say what Claude should do.")
    call = Call(
        prompt=replace_lone_surrogates(prompt),
        model=model.strip(),
        effort=effort,
        system=replace_lone_surrogates(system),
        max_tokens=max_tokens,
        max_usd=max_usd,
        thread=thread,
        tools=tuple(tools),
        files=tuple(files),
        schema=await anyio.to_thread.run_sync(schemas.parse_json_schema, schema) if schema else None,
        tool="claude_ask",
        source="mcp",
        client=caller.client,
        user=caller.user.name,
        limits=caller.user.limits,
        trace_id=caller.trace_id,
    )
    jobs = await services.calls()
    if dry_run:
        return tool_results.text_result(_cost_table(await (await services.threads()).estimate_call_cost(call), tools))
    try:
        async with progress_reporter(caller.send_progress, caller.style, services.settings) as progress:
            reply = await jobs.run_call(call, progress.queue_event)
    except CallError:
        jobs.mark_delivered(call.id)  # its sentence is all that there will be
        raise
    limit = services.settings.inline_limit(client_truncates=caller.truncates_results)
    if limit is None or len(reply.text) <= limit:
        jobs.mark_delivered(call.id)
    return tool_results.reply_result(reply, with_footer=services.settings.footer, limit=limit)


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
