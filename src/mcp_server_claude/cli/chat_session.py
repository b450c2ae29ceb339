"""The loop of `mcp-server-claude chat`: read a line or a command, ask, show the answer, add up the cost."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio.to_thread
import typer

from mcp_server_claude import number_formatting
from mcp_server_claude.calls.ask_request import build_call
from mcp_server_claude.calls.usage_footer import usage_footer
from mcp_server_claude.cli import local_files, shell_call, terminal_output
from mcp_server_claude.cli.answer_display import MarkdownDisplay, PlainDisplay
from mcp_server_claude.cli.line_history import HISTORY_FILE, LineHistory
from mcp_server_claude.cli.markdown_stream import without_control_characters
from mcp_server_claude.cli.spending_prompt import confirm_cost
from mcp_server_claude.errors import CallError, RequestError

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Effort, ToolName
    from mcp_server_claude.services.lazy_services import Services

PROMPT, CONTINUATION_PROMPT = "› ", "… "
TEXT_QUOTES = '"""'
HELP = """\
/model NAME   ask another model from now on; without a name, show the current one
/file PATH    send a file, glob or URL with the next message
/system TEXT  set the role and rules from the next message on
/cost         show what this conversation has cost
/thread       show the id of this conversation
/new          begin a new conversation
/help         show this list
/exit         end (or Ctrl-D)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """The options of a conversation."""

    files: tuple[str, ...]
    system: str
    model: str
    effort: str
    continues: bool
    thread: str
    tools: tuple[str, ...]
    max_usd: float
    plain: bool


@dataclass(slots=True)
class ChatState:
    """The state of a conversation: its thread, the model and rules of the next message, the files to send with it."""

    thread: str
    model: str
    system: str
    files: list[str] = field(default_factory=list[str])
    answers: int = 0
    cost_usd: float = 0.0
    has_unknown_cost: bool = False


class EndOfChat(Exception):  # noqa: N818 - it is no error
    """The user has ended the conversation."""


def run_chat(options: ChatOptions) -> int:
    """Talk until the user ends it; the exit code."""
    return shell_call.run_with_services(partial(_chat, options=options))


async def _chat(services: Services, options: ChatOptions) -> int:
    is_terminal = sys.stdin.isatty()
    keeps_lines = is_terminal and services.settings.retention_days > 0
    history = LineHistory(services.settings.data_dir / HISTORY_FILE) if keeps_lines else None
    state = ChatState(
        thread=await shell_call.find_thread(services, options.thread, continues=options.continues),
        model=options.model,
        system=options.system,
        files=list(options.files),
    )
    if is_terminal:
        typer.secho(f"{state.model or services.settings.model} · /help lists the commands · Ctrl-D ends", dim=True)
    try:
        while True:
            message = await anyio.to_thread.run_sync(partial(read_message, is_terminal=is_terminal))
            await _handle(services, options, state, message)
    except EndOfChat:
        return 0
    finally:
        if history is not None:
            history.save()
        if is_terminal and state.thread and state.answers:
            typer.secho(f"[thread {state.thread} · {_cost_text(state)}]", dim=True)


def read_message(*, is_terminal: bool) -> str:
    """Read a message: one line, lines that end with a backslash, or a text between three quotation marks.

    Raises:
        EndOfChat: The input has ended.
    """
    lines = [_read_line(PROMPT if is_terminal else "")]
    if lines[0].lstrip().startswith(TEXT_QUOTES):
        lines[0] = lines[0].lstrip().removeprefix(TEXT_QUOTES)
        while TEXT_QUOTES not in lines[-1]:
            lines.append(_read_line(CONTINUATION_PROMPT if is_terminal else ""))
        lines[-1] = lines[-1].partition(TEXT_QUOTES)[0]
    else:
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(_read_line(CONTINUATION_PROMPT if is_terminal else ""))
    return "\n".join(lines).strip()


def _read_line(prompt: str) -> str:
    try:
        return input(prompt)
    except EOFError:
        raise EndOfChat from None


async def _handle(services: Services, options: ChatOptions, state: ChatState, message: str) -> None:
    """Carry out a command, or ask. An error is printed, and the conversation continues."""
    try:
        if message.startswith("/"):
            _run_command(state, message, services.settings.model)
        elif message:
            await _ask(services, options, state, message)
    except CallError as failure:
        typer.secho(terminal_output.shell_error_text(failure), fg="red", err=True)


def _run_command(state: ChatState, message: str, default_model: str) -> None:
    name, _, argument = message.partition(" ")
    argument = argument.strip()
    match name:
        case "/model":
            state.model = argument or state.model
            typer.secho(f"model: {state.model or default_model}", dim=True)
        case "/file" if argument:
            state.files.append(argument)
            typer.secho(f"with the next message: {', '.join(state.files)}", dim=True)
        case "/system":
            state.system = argument
        case "/cost":
            typer.secho(_cost_text(state), dim=True)
        case "/thread":
            typer.secho(state.thread or "The conversation has not begun.", dim=True)
        case "/new":
            state.thread = ""
            typer.secho("A new conversation begins.", dim=True)
        case "/exit" | "/quit":
            raise EndOfChat
        case "/help":
            typer.secho(HELP, dim=True)
        case _:
            raise RequestError(f"There is no command {name!r} like that. /help lists the commands.")


def _cost_text(state: ChatState) -> str:
    more = " and what is unknown" if state.has_unknown_cost else ""
    answers = number_formatting.format_count(state.answers, "answer")
    return f"{answers}, {number_formatting.format_usd(state.cost_usd)}{more}"


async def _ask(services: Services, options: ChatOptions, state: ChatState, message: str) -> None:
    files = local_files.file_references(
        state.files, working_directory=Path.cwd(), allow_names=services.settings.allow_files
    )
    call = await build_call(
        shell_call.shell_origin("chat"),
        prompt=message,
        model=state.model,
        effort=cast("Effort", options.effort),
        system=state.system,
        max_usd=options.max_usd,
        files=files,
        tools=cast("tuple[ToolName, ...]", options.tools),
        thread=state.thread,
    )
    await confirm_cost(
        services.settings, partial(services.threads.estimate_call_cost, call), max_usd=call.max_usd, approved=False
    )
    is_plain = options.plain or not sys.stdout.isatty()
    display = PlainDisplay() if is_plain else MarkdownDisplay(status=True)
    result = await shell_call.run_displayed(services, call, display)
    state.files.clear()
    reply = result.reply
    if reply is None:
        characters = number_formatting.format_count(len(result.text), "character")
        summary = f"kept {characters}" if result.text else "no text had been written"
        typer.secho(f"[stopped · {summary} · {call.id}]", fg="yellow", err=True)
        return
    state.thread = reply.usage.thread or state.thread
    state.answers += 1
    state.cost_usd += reply.usage.cost_usd or 0.0
    state.has_unknown_cost = state.has_unknown_cost or reply.usage.cost_usd is None
    if reply.incomplete:
        typer.secho(f"INCOMPLETE: {without_control_characters(reply.incomplete)}", fg="yellow", err=True)
    typer.secho(without_control_characters(usage_footer(reply.usage, reply.notes)), dim=True, err=True)
