"""The loop of `mcp-server-claude chat`: read a line or a command, ask, show the answer, add up the cost."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import typer

from mcp_server_claude.cli import shell_call, terminal_output
from mcp_server_claude.cli.answer_display import MarkdownDisplay, PlainDisplay
from mcp_server_claude.cli.chat_commands import (
    ChatState,
    EndOfChat,
    build_message_call,
    check_state,
    print_still_attached,
    report_attached_files,
    run_command,
)
from mcp_server_claude.cli.line_history import HISTORY_FILE, LineHistory
from mcp_server_claude.cli.markdown_stream import without_control_characters
from mcp_server_claude.cli.spending_prompt import confirm_cost
from mcp_server_claude.errors import CallError
from mcp_server_claude.users.user import LOCAL

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Call
    from mcp_server_claude.cli.call_options import ChatOptions
    from mcp_server_claude.services.lazy_services import Services

PROMPT, CONTINUATION_PROMPT = "› ", "… "
BYTE_ORDER_MARK = "\ufeff"
"""The first character of what PowerShell pipes."""
TEXT_QUOTES = '"""'


@dataclass(frozen=True, slots=True)
class TypedMessage:
    """What was typed. A text between quotation marks is no command, whatever it begins with."""

    text: str
    is_command: bool


def run_chat(options: ChatOptions) -> int:
    """Talk until the user ends it; the exit code."""
    return shell_call.run_with_services(partial(_chat, options=options))


async def _chat(services: Services, options: ChatOptions) -> int:
    is_terminal = sys.stdin.isatty()
    keeps_lines = is_terminal and services.settings.retention_days > 0
    history = LineHistory(services.settings.data_dir / HISTORY_FILE) if keeps_lines else None
    state = await _first_state(services, options)
    if is_terminal:
        typer.secho(f"{state.model or services.settings.model} · /help lists the commands · Ctrl-D ends", dim=True)
    try:
        while True:
            message = read_message(is_terminal=is_terminal)
            await _handle(services, options, state, message)
    except EndOfChat:
        return 0
    finally:
        if history is not None:
            history.save()
        if is_terminal and state.thread and state.answers:
            typer.secho(f"[thread {state.thread} · {state.cost_text()}]", dim=True)


async def _first_state(services: Services, options: ChatOptions) -> ChatState:
    """The state that the options ask for, checked unless they are all left out: that takes a second.

    Raises:
        CallError: There is no such conversation, model or file, or the options do not go together.
    """
    state = ChatState(
        thread=await shell_call.find_thread(services, options.thread, continues=options.continues),
        model=options.model,
        system=options.system,
        files=list(options.files),
    )
    if state.thread and not state.model:
        state.model = (await services.threads.read_transcript(state.thread, LOCAL.name)).thread.model
    if state.thread or state.model or state.files or options.effort or options.tools:
        await check_state(services, options, state)
    return state


def read_message(*, is_terminal: bool) -> TypedMessage:
    """Read a message: one line, lines that end with a backslash, or a text between three quotation marks.

    On a terminal Ctrl-C discards what was typed.

    Raises:
        EndOfChat: The input has ended.
    """
    try:
        with terminal_output.interruptible_input():
            return _read_lines(is_terminal=is_terminal)
    except KeyboardInterrupt:
        if not is_terminal:
            raise
        typer.echo()
        return TypedMessage("", is_command=False)


def _read_lines(*, is_terminal: bool) -> TypedMessage:
    lines = [_read_line(PROMPT if is_terminal else "").removeprefix(BYTE_ORDER_MARK)]
    is_quoted = lines[0].lstrip().startswith(TEXT_QUOTES)
    if is_quoted:
        lines[0] = lines[0].lstrip().removeprefix(TEXT_QUOTES)
        while TEXT_QUOTES not in lines[-1]:
            lines.append(_read_line(CONTINUATION_PROMPT if is_terminal else ""))
        lines[-1] = lines[-1].partition(TEXT_QUOTES)[0]
    else:
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(_read_line(CONTINUATION_PROMPT if is_terminal else ""))
    text = "\n".join(lines).strip()
    return TypedMessage(text, is_command=text.startswith("/") and not is_quoted)


def _read_line(prompt: str) -> str:
    try:
        return input(prompt)
    except EOFError:
        raise EndOfChat from None


async def _handle(services: Services, options: ChatOptions, state: ChatState, message: TypedMessage) -> None:
    """Carry out a command, or ask. An error is printed, and the conversation continues."""
    try:
        if message.is_command:
            await run_command(services, options, state, message.text)
        elif message.text:
            await _ask(services, options, state, message.text)
    except CallError as failure:
        terminal_output.print_call_error(failure)
        if state.files and not message.is_command:
            await report_attached_files(services, options, state, failure)


async def _ask(services: Services, options: ChatOptions, state: ChatState, message: str) -> None:
    call = await shell_call.run_until_signal(partial(_build_approved_call, services, options, state, message))
    if call is None:
        typer.secho("[stopped · nothing was sent]", fg="yellow", err=True)
        return
    is_plain = options.plain or not sys.stdout.isatty()
    display = PlainDisplay() if is_plain else MarkdownDisplay(status=True)
    result = await shell_call.run_displayed(services, call, display)
    if result.reply is not None or result.text:  # a turn without any answer is not part of the conversation
        state.files.clear()
    state.thread = result.thread or state.thread
    state.cost_usd += result.cost_usd or 0.0
    state.has_unknown_cost = state.has_unknown_cost or result.cost_usd is None
    reply = result.reply
    if reply is None:
        shell_call.print_interrupted(result)
        print_still_attached(state)
        return
    state.answers += 1
    if reply.incomplete:
        typer.secho(f"INCOMPLETE: {without_control_characters(reply.incomplete)}", fg="yellow", err=True)
    shell_call.print_footer(reply)


async def _build_approved_call(services: Services, options: ChatOptions, state: ChatState, message: str) -> Call:
    call = await build_message_call(services, options, state, message)
    await confirm_cost(
        services.settings, partial(services.threads.estimate_call_cost, call), max_usd=call.max_usd, approved=False
    )
    return call
