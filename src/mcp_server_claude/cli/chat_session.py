"""The loop of `mcp-server-claude chat`: read a line or a command, ask, show the answer, add up the cost."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from mcp_server_claude import number_formatting
from mcp_server_claude.calls.ask_request import build_call
from mcp_server_claude.cli import local_files, shell_call, terminal_output
from mcp_server_claude.cli.answer_display import MarkdownDisplay, PlainDisplay
from mcp_server_claude.cli.line_history import HISTORY_FILE, LineHistory
from mcp_server_claude.cli.markdown_stream import without_control_characters
from mcp_server_claude.cli.spending_prompt import confirm_cost
from mcp_server_claude.errors import CallError, RequestError

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Call, Effort, ToolName
    from mcp_server_claude.services.lazy_services import Services

PROMPT, CONTINUATION_PROMPT = "› ", "… "
TEXT_QUOTES = '"""'
HELP = """\
/model NAME   ask another model from now on; without a name, show the current one
/file PATH    attach a file, glob or URL; without a path, list what is attached
/system TEXT  set the role and rules; without a text, remove them
/cost         show the cost of this conversation
/thread       show the id of this conversation
/new          start a new conversation
/help         show this list
/exit         end the conversation (or Ctrl-D)

A line that ends with \\ continues on the next one; \"\"\" starts and ends a long text.
Ctrl-C stops an answer, or discards the line that you are typing."""


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

    def start_again(self) -> None:
        """Forget the thread and its cost; the model, the rules and the files stay."""
        self.thread, self.answers, self.cost_usd, self.has_unknown_cost = "", 0, 0.0, False


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
            message = read_message(is_terminal=is_terminal)
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
        return ""


def _read_lines(*, is_terminal: bool) -> str:
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
        if isinstance(failure, RequestError) and state.files:
            typer.secho(f"No longer attached: {', '.join(state.files)}", fg="red", err=True)
            state.files.clear()  # a file that cannot be sent would fail every later message too


def _run_command(state: ChatState, message: str, default_model: str) -> None:
    name, _, argument = message.partition(" ")
    argument = argument.strip()
    match name:
        case "/model":
            state.model = argument or state.model
            typer.secho(f"model: {state.model or default_model}", dim=True)
        case "/file":
            state.files += [argument] if argument else []
            typer.secho(f"With the next message: {', '.join(state.files) or 'no files'}", dim=True)
        case "/system":
            state.system = argument
            typer.secho(f"Role and rules: {state.system or 'none'}", dim=True)
        case "/cost":
            typer.secho(_cost_text(state), dim=True)
        case "/thread":
            typer.secho(state.thread or "No conversation yet.", dim=True)
        case "/new":
            state.start_again()
            typer.secho("The next message starts a new conversation.", dim=True)
        case "/exit" | "/quit":
            raise EndOfChat
        case "/help":
            typer.secho(HELP, dim=True)
        case _:
            raise RequestError(f"There is no command {name}. /help lists the commands.")


def _cost_text(state: ChatState) -> str:
    more = ", and answers of unknown price" if state.has_unknown_cost else ""
    answers = number_formatting.format_count(state.answers, "answer")
    return f"{answers}, {number_formatting.format_usd(state.cost_usd)}{more}"


async def _ask(services: Services, options: ChatOptions, state: ChatState, message: str) -> None:
    call = await shell_call.run_until_signal(partial(_build_approved_call, services, options, state, message))
    if call is None:
        typer.secho("[stopped · nothing was sent]", fg="yellow", err=True)
        return
    is_plain = options.plain or not sys.stdout.isatty()
    display = PlainDisplay() if is_plain else MarkdownDisplay(status=True)
    result = await shell_call.run_displayed(services, call, display)
    state.files.clear()
    state.thread = result.thread or state.thread
    state.cost_usd += result.cost_usd or 0.0
    state.has_unknown_cost = state.has_unknown_cost or result.cost_usd is None
    reply = result.reply
    if reply is None:
        shell_call.print_interrupted(result)
        return
    state.answers += 1
    if reply.incomplete:
        typer.secho(f"INCOMPLETE: {without_control_characters(reply.incomplete)}", fg="yellow", err=True)
    shell_call.print_footer(reply)


async def _build_approved_call(services: Services, options: ChatOptions, state: ChatState, message: str) -> Call:
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
    return call
