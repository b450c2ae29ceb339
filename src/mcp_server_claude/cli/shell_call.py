"""Calls of the shell: the same engine as behind MCP and HTTP, with Ctrl-C."""

from __future__ import annotations

import gc
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import anyio

from mcp_server_claude import number_formatting
from mcp_server_claude.calls.ask_request import CallOrigin, build_call
from mcp_server_claude.calls.usage_footer import usage_footer
from mcp_server_claude.cli import local_files, terminal_output
from mcp_server_claude.cli.markdown_stream import without_control_characters
from mcp_server_claude.errors import RequestError
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.telemetry import stderr_logging
from mcp_server_claude.users.user import LOCAL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from mcp_server_claude.call_types import Call, CallEvent, Effort, Reply, ToolName
    from mcp_server_claude.cli.answer_display import AnswerDisplay

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """The result of a call. `reply` is None when Ctrl-C ended it; `text` is then what had been written.

    `thread` is the id of its conversation, empty if none is kept; `cost_usd` is None if the price is unknown.
    """

    call: Call
    reply: Reply | None
    text: str
    thread: str
    cost_usd: float | None


async def build_shell_call(
    tool: str,
    *,
    prompt: str,
    system: str,
    model: str,
    effort: Effort,
    max_tokens: int = 0,
    max_usd: float = 0.0,
    files: Sequence[str] = (),
    schema: Mapping[str, object] | None = None,
    tools: Sequence[ToolName] = (),
    thread: str = "",
    batch: bool = False,
) -> Call:
    """The call that the arguments of a command ask for; see `build_call`.

    Raises:
        RequestError: The prompt or the rules are not UTF-8 text, there is neither a prompt nor a file, or the schema is
            not a JSON Schema.
    """
    local_files.check_utf8(prompt, "The prompt")
    local_files.check_utf8(system, "The text of the role and rules")
    return await build_call(
        CallOrigin(tool=tool, source="shell", client="shell", user=LOCAL),
        prompt=prompt,
        system=system,
        model=model,
        effort=effort,
        max_tokens=max_tokens,
        max_usd=max_usd,
        files=files,
        schema=schema,
        tools=tools,
        thread=thread,
        batch=batch,
    )


async def find_thread(services: Services, thread: str, *, continues: bool) -> str:
    """The id of the thread of a call: with `continues` that of the latest conversation, else `thread`.

    Raises:
        RequestError: Both are given, or there is no conversation.
    """
    if not continues:
        return thread
    if thread:
        raise RequestError("Use --continue or --thread, not both.")
    latest = await services.threads.latest_threads(LOCAL.name)
    if not latest:
        raise RequestError("There is no conversation to continue.", kind="not_found")
    return latest[0].id


def run_with_services(work: Callable[[Services], Awaitable[T]]) -> T:
    """Run `work` with the services of this process and return its result.

    Raises:
        CallError: `work` raised it.
        KeyboardInterrupt: Ctrl-C.
    """
    stderr_logging.log_only_bugs()
    gc.disable()  # imports make 200,000 objects and no garbage
    return anyio.run(_with_services, work)


def print_footer(reply: Reply) -> None:
    """Print the line on tokens and cost on stderr, on a terminal in lines that fit."""
    terminal_output.print_parts(without_control_characters(usage_footer(reply.usage, reply.notes)).split(" · "))


async def run_displayed(services: Services, call: Call, display: AnswerDisplay) -> CallResult:
    """Run a call with its display. Ctrl-C and SIGTERM stop it and keep what had been written.

    On Windows signals cannot be received in a task, so Ctrl-C ends the command; the journal keeps the text.

    Raises:
        CallError: There is no answer.
        OSError: The answer cannot be written, e.g. because the reader of a pipe has ended. The call is stopped.
    """
    calls = services.calls

    async def ask_once() -> Reply:
        failures: list[OSError] = []

        def show(event: CallEvent) -> None:
            try:
                if not failures:
                    display.on_event(event)
            except OSError as error:  # raised here, it would look like a bug of the call
                failures.append(error)
                scope.cancel()

        answered: Reply | None = None
        with anyio.CancelScope() as scope:
            answered = await calls.run_call(call, show)
        if answered is None or failures:
            raise failures[0]
        calls.mark_delivered(call.id)
        return answered

    with display:
        reply = await run_until_signal(ask_once)
    if reply is not None:
        usage = reply.usage
        return CallResult(call=call, reply=reply, text=reply.text, thread=usage.thread or "", cost_usd=usage.cost_usd)
    try:
        stopped = await calls.read_call(call.id, call.user)
    except RequestError:  # it had not been admitted yet
        return CallResult(call=call, reply=None, text="", thread="", cost_usd=0.0)
    cost = (stopped.record.usage or {}).get("cost_usd")
    has_thread = bool(stopped.text or call.thread)  # a new one that would hold no answer is not kept
    return CallResult(
        call=call,
        reply=None,
        text=stopped.text,
        thread=(stopped.record.thread or "") if has_thread else "",
        cost_usd=cost if isinstance(cost, float) else None,
    )


def print_interrupted(result: CallResult) -> None:
    """Print on stderr what Ctrl-C left of an answer, and where it can be continued."""
    characters = number_formatting.format_count(len(result.text), "character")
    parts = ["stopped", f"kept {characters}" if result.text else "no text had been written"]
    if result.thread:
        parts.append(f"thread {result.thread}")
    terminal_output.print_parts(f"[{' · '.join([*parts, result.call.id])}]".split(" · "), fg="yellow")


async def run_until_signal(work: Callable[[], Awaitable[T]]) -> T | None:
    """The result of `work`, or None if Ctrl-C or SIGTERM cancelled it.

    An exception of `work` is raised as it is, not in an exception group.
    """
    results: list[T] = []
    failures: list[Exception] = []

    async def run_work() -> None:
        try:
            results.append(await work())
        except Exception as failure:  # noqa: BLE001 - raised below, outside of the task group
            failures.append(failure)

    with anyio.CancelScope() as scope:
        if sys.platform == "win32":
            await run_work()
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_at_signal, scope)
                await run_work()
                tasks.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return results[0] if results else None


async def _with_services(work: Callable[[Services], Awaitable[T]]) -> T:
    settings = terminal_output.load_settings()
    failure: Exception | KeyboardInterrupt
    async with Services.lifespan(settings, shares_jobs=False) as services:
        await services.open()
        try:
            return await work(services)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - raised below, outside of the task group
            failure = error
    raise failure


async def _cancel_at_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()
            return
