"""The state of a conversation of `mcp-server-claude chat`, and the commands that begin with a slash."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, cast

import typer

from mcp_server_claude import number_formatting
from mcp_server_claude.cli import local_files, shell_call, terminal_output
from mcp_server_claude.errors import CallError, RequestError
from mcp_server_claude.services.open_services import file_policy_for

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Call, Effort, ToolName
    from mcp_server_claude.cli.call_options import ChatOptions
    from mcp_server_claude.services.lazy_services import Services

HELP = """\
/model NAME   ask another model from now on; without a name, show the current one
/file PATH    attach a file, glob or URL; without a path, list what is attached
/detach PATH  detach a file, glob or URL; without a path, all of them
/system TEXT  set the role and rules; without a text, remove them
/cost         show the cost of this conversation
/thread       show the id of this conversation
/new          start a new conversation
/help         show this list
/exit         end the conversation (or Ctrl-D)

A line that ends with \\ continues on the next one; \"\"\" starts and ends a long text, or one that begins with /.
Ctrl-C stops an answer, or discards the line that you are typing."""
HELP_COLUMN = HELP.index("ask another")
"""The column in which the description of a command begins."""
CHECK_PROMPT = "?"
"""The prompt of a call that is only checked."""


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

    def cost_text(self) -> str:
        """The number of answers and their cost."""
        more = ", and answers of unknown price" if self.has_unknown_cost else ""
        answers = number_formatting.format_count(self.answers, "answer")
        return f"{answers}, {number_formatting.format_usd(self.cost_usd)}{more}"


class EndOfChat(Exception):  # noqa: N818 - it is no error
    """The user has ended the conversation."""


def help_text(max_width: int) -> str:
    """The list of commands in lines of whole words."""
    return "\n".join(
        terminal_output.wrap_paragraph(line, max_width, indent=HELP_COLUMN if line.startswith("/") else 0)
        for line in HELP.split("\n")
    )


async def build_message_call(services: Services, options: ChatOptions, state: ChatState, message: str) -> Call:
    """The call of a message, with the files that are attached.

    Raises:
        RequestError: A file outside of the working directory cannot be read, its name looks like a secret's, or the
            message is not UTF-8 text.
    """
    files = local_files.named_files(state.files, file_policy_for(services.settings))
    return await shell_call.build_shell_call(
        "chat",
        prompt=message,
        model=state.model,
        effort=cast("Effort", options.effort),
        system=state.system,
        max_usd=options.max_usd,
        files=files,
        tools=cast("tuple[ToolName, ...]", options.tools),
        thread=state.thread,
    )


async def check_state(services: Services, options: ChatOptions, state: ChatState) -> str:
    """Check that a message could be sent like this: the model with the options, the thread, the files.

    Returns:
        The id of the model.

    Raises:
        CallError: It could not.
    """
    call = await build_message_call(services, options, state, CHECK_PROMPT)
    return (await services.threads.check_call(call)).model


async def run_command(services: Services, options: ChatOptions, state: ChatState, line: str) -> None:
    """Carry out a command. A model or a file that cannot be used is refused, and the state stays as it was.

    Raises:
        EndOfChat: The command ends the conversation.
        CallError: There is no such command, or its argument cannot be used.
    """
    name, _, argument = line.partition(" ")
    argument = argument.strip()
    match name:
        case "/model":
            await _choose_model(services, options, state, argument)
        case "/file":
            await _attach(services, options, state, argument)
        case "/detach":
            _detach(state, argument)
        case "/system":
            state.system = argument
            typer.secho(f"Role and rules: {state.system or 'none'}", dim=True)
        case "/cost":
            typer.secho(state.cost_text(), dim=True)
        case "/thread":
            typer.secho(state.thread or "No conversation yet.", dim=True)
        case "/new":
            state.start_again()
            typer.secho("The next message starts a new conversation.", dim=True)
        case "/exit" | "/quit":
            raise EndOfChat
        case "/help":
            typer.secho(help_text(terminal_output.stdout_columns()), dim=True)
        case _:
            raise RequestError(
                f"There is no command {name}. /help lists the commands; a text that begins with / goes between "
                'three quotation marks (""").'
            )


async def report_attached_files(services: Services, options: ChatOptions, state: ChatState, failure: CallError) -> None:
    """Detach the files because of which a message failed, and print which are gone and which are kept.

    A file that cannot be sent would fail every later message too. A file that can be sent alone stays.
    """
    may_be_a_file = isinstance(failure, RequestError) and failure.kind != "confirmation"
    removed = await _unusable_files(services, options, state) if may_be_a_file else []
    state.files = [name for name in state.files if name not in removed]
    if removed:
        typer.secho(f"No longer attached: {', '.join(removed)}", fg="red", err=True)
    print_still_attached(state)


def print_still_attached(state: ChatState) -> None:
    """Print the files that the next message will be sent with, after one that failed or was stopped."""
    if state.files:
        typer.secho(f"Still attached: {', '.join(state.files)} (/detach removes them)", fg="yellow", err=True)


async def _unusable_files(services: Services, options: ChatOptions, state: ChatState) -> list[str]:
    """The attached files that cannot be sent; none if a message without files could not be sent either."""
    unusable: list[str] = []
    try:
        await check_state(services, options, replace(state, files=[]))
        for name in state.files:
            try:
                await check_state(services, options, replace(state, files=[name]))
            except RequestError:
                unusable.append(name)
    except CallError:
        return []
    return unusable


async def _choose_model(services: Services, options: ChatOptions, state: ChatState, name: str) -> None:
    if name:
        checked = replace(state, model=name, files=[])
        if await shell_call.run_until_signal(partial(check_state, services, options, checked)) is None:
            return
        state.model = name
    typer.secho(f"model: {state.model or services.settings.model}", dim=True)


async def _attach(services: Services, options: ChatOptions, state: ChatState, name: str) -> None:
    if name and name not in state.files:
        checked = replace(state, files=[name])
        if await shell_call.run_until_signal(partial(check_state, services, options, checked)) is None:
            return
        state.files.append(name)
    _print_attached(state)


def _detach(state: ChatState, name: str) -> None:
    if name and name not in state.files:
        raise RequestError(f"{name} is not attached. Attached: {', '.join(state.files) or 'no files'}.")
    state.files = [each for each in state.files if name and each != name]
    _print_attached(state)


def _print_attached(state: ChatState) -> None:
    typer.secho(f"With the next message: {', '.join(state.files) or 'no files'}", dim=True)
