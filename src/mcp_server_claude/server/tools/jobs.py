"""`claude_jobs`: find, read, wait for and stop calls by their id, whatever became of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from mcp.types import CallToolResult, TextContent
from pydantic import Field

from mcp_server_claude import number_formatting
from mcp_server_claude.errors import Refused
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server import tool_results
from mcp_server_claude.server.progress_notifications import pump
from mcp_server_claude.server.tool_dependencies import TheCaller, TheServices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.call_types import Produced
    from mcp_server_claude.calls.conversation_threads import Transcript
    from mcp_server_claude.calls.running_calls import Job
    from mcp_server_claude.store.call_journal import Record
    from mcp_server_claude.store.thread_messages import Thread, Turn

OPENING = 60
THREAD = "t_"


async def claude_jobs(
    id: Annotated[str, Field(description="A call's (c_…) or thread's (t_…) id. None: lists both.")] = "",  # noqa: A002
    wait: Annotated[float, Field(description="Seconds to wait for a running call to end.", ge=0, le=3600)] = 0,
    cancel: Annotated[bool, Field(description="Stop the call; what is written is kept and returned.")] = False,  # noqa: FBT002
    *,
    services: TheServices,
    caller: TheCaller,
) -> CallToolResult:
    """List the latest calls, cut-off ones first, or read one by its id: its text so far, and its account.

    Use it after a call timed out, was cancelled or is still running: nothing that was written is lost.
    """
    jobs = await services.jobs()
    await services.sweep()
    name, user = id.strip(), caller.user.name
    limit = services.settings.inline_limit(cuts=caller.cuts_results)
    if not name:
        if cancel:
            raise Refused("cancel needs the id of a call.")
        calls, threads = await jobs.recent(user), await (await services.threads()).recent(user)
        return tool_results.text(*[_list(calls), _threads(threads)][: 2 if threads else 1])
    if name.startswith(THREAD):
        conversation = await (await services.threads()).read(name, user)
        told = tool_results.whole_or_head(transcript(conversation), f"claude://threads/{name}", limit, "conversation")
        line = TextContent(type="text", text=f"[{name} · {len(conversation.turns)} turns]")
        return CallToolResult(content=[*told, line])
    if cancel:
        await jobs.cancel(name, user)
    if wait:
        await jobs.read(name, user)  # nobody waits for another's call
        async with pump(caller.report, caller.style, services.settings):  # heartbeats: a silent call is given up
            await jobs.wait(name, wait)
    made = await (await services.products()).of(name, user)
    return _shown(await jobs.read(name, user), made, limit)


def _list(records: Sequence[Record]) -> str:
    if not records:
        return "Nothing was asked yet."
    rows = [
        (
            record.id,
            f"{datetime.fromtimestamp(record.started_at, UTC):%m-%d %H:%M}",
            "running" if record.state == "open" else record.end or "?",
            record.model or "-",
            number_formatting.tokens(record.chars),
            f"{record.prompt_head[:OPENING]}{'…' if len(record.prompt_head) > OPENING else ''}",
        )
        for record in records
    ]
    return tool_results.table(("id", "began (UTC)", "state", "model", "characters", "prompt"), rows)


def _threads(threads: Sequence[Thread]) -> str:
    rows = [
        (each.id, f"{datetime.fromtimestamp(each.touched_at, UTC):%m-%d %H:%M}", each.model, each.head[:OPENING])
        for each in threads
    ]
    return tool_results.table(("thread", "latest (UTC)", "model", "began with"), rows)


def transcript(conversation: Transcript) -> str:
    """A conversation as Markdown: who said what. Of files the names; thinking and tools' results are left out."""
    parts = [f"## {'Question' if turn.role == 'user' else 'Answer'}\n\n{_said(turn)}" for turn in conversation.turns]
    return "\n\n".join(parts) or "(nothing yet)"


def _said(turn: Turn) -> str:
    from mcp_server_claude.calls.conversation_threads import answer_in
    from mcp_server_claude.files import shown  # neither before the client's handshake is answered

    if turn.role == "assistant":
        return answer_in(turn)
    texts = [str(block.get("text") or "") for block in turn.content if block.get("type") == "text"]
    files = [f"[{each.kind}: {each.name}]\n" for each in shown(turn.content[:-1])]  # what was said stands last
    return "".join((*files, "\n" if files else "", *texts[-1:]))


def _nothing(record: Record) -> str:
    """What to say where a call has no text: one that is complete had one, and it was deleted."""
    return "(the text is no longer kept)" if record.end == "complete" else "(no text)"


def _shown(job: Job, made: Sequence[Produced], limit: int | None) -> CallToolResult:
    """The text, a line on its state, links to the files it made, and the account where there is one."""
    record = job.record
    state = "running" if record.state == "open" else record.end or "?"
    line = f"[{record.id} · {state} · {number_formatting.tokens(len(job.text))} characters]"
    content = tool_results.whole_or_head(job.text or _nothing(record), f"claude://calls/{record.id}", limit)
    content += [TextContent(type="text", text=line), *map(tool_results.file_link, made)]
    if record.end != "complete":
        why = "it is still being written. Ask again with wait=50." if record.state == "open" else record.incomplete
        content.append(TextContent(type="text", text=replace_lone_surrogates(f"INCOMPLETE: {why}")))
    meta = tool_results.files_meta(made)
    if record.usage is not None:
        meta[tool_results.USAGE_KEY] = dict(record.usage)
    return CallToolResult(content=content, _meta=meta or None)
