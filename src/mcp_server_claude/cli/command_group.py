"""The list of commands, each in a module that is imported when the command is used.

So `--help` and completion answer at once, and a command may import what it needs at the top of its module.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer._click.shell_completion import CompletionItem  # typer has no public name for it
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable

CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """A command: its module below this package, its function or `typer.Typer` there, and a line for the list."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "ask": CommandEntry("ask", "ask_question", "Ask Claude a question; the answer streams to the terminal or a pipe."),
    "chat": CommandEntry("chat", "start_chat", "Talk with Claude in the terminal."),
    "map": CommandEntry("map_items", "map_items", "Ask the same of many files, rows or lines, in parallel."),
    "jobs": CommandEntry(
        "jobs", "app", "List, show, wait for, cancel and resume background jobs, and get their output."
    ),
    "threads": CommandEntry("threads", "app", "List, search, show and export conversations."),
    "models": CommandEntry("models", "show_models", "List the models with limits and prices."),
    "serve": CommandEntry("serve", "run_server", "Serve MCP over stdio, or everything over HTTP for a team."),
    "keys": CommandEntry("keys", "app", "Keep API keys in the keyring of the operating system: set, list, remove."),
    "user": CommandEntry("users", "app", "Manage the users of the HTTP server: add, list, set, rotate, remove."),
    "usage": CommandEntry("usage", "show_usage", "Show requests, tokens and cost."),
    "backup": CommandEntry("backup_and_forget", "back_up", "Copy the database into a file while servers run."),
    "forget": CommandEntry("backup_and_forget", "forget_text", "Delete prompts and answers for good."),
    "move": CommandEntry("move", "move_to_postgres", "Copy the database into PostgreSQL."),
    "demo": CommandEntry("demo_command", "run_demo", "Watch an answer stream through MCP, without a key or network."),
    "doctor": CommandEntry("doctor_command", "run_doctor", "Check what works, with a hint for each problem."),
    "config": CommandEntry("config_command", "print_config", "Print your MCP client's configuration, ready to paste."),
    "completion": CommandEntry("completion", "print_completion", "Print the completion script of bash, zsh or fish."),
    "simulate": CommandEntry("simulate_command", "run_simulator", "Serve an offline Messages API for tests."),
}
"""The commands in the order of the list."""


def subcommand_group(summary: str) -> typer.Typer:
    """The group of a command that has commands of its own, such as `user add`."""
    return typer.Typer(
        help=summary,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        context_settings=CONTEXT_SETTINGS,
    )


class LazyCommandGroup(TyperGroup):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = LazyCommands(self.commands)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The commands that begin with what is typed, without importing them; options as usual."""
        if incomplete.startswith("-"):
            return super(TyperGroup, self).shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=entry.summary) for name, entry in COMMANDS.items() if name.startswith(incomplete)
        ]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list without importing the commands, and without cutting a summary."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


class LazyCommands(dict[str, Any]):
    """The commands by name, in order; each is imported when it is looked up."""

    def __init__(self, eager: dict[str, Any]) -> None:
        super().__init__({**dict.fromkeys(COMMANDS), **eager})

    def __getitem__(self, name: str) -> Any:
        command = super().__getitem__(name)
        if command is None:
            command = self[name] = load_command(name)
        return command

    def get(self, name: str, default: Any = None) -> Any:
        """The command of that name."""
        return self[name] if name in self else default  # noqa: SIM401 - dict.get would not import it


def load_command(name: str) -> Any:
    """Import a command and build its parser."""
    entry = COMMANDS[name]
    loaded: typer.Typer | Callable[..., None] = getattr(
        import_module(f"mcp_server_claude.cli.{entry.module}"), entry.attribute
    )
    if not isinstance(loaded, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=CONTEXT_SETTINGS)
        single.command(name)(loaded)
        loaded = single
    command = typer.main.get_command(loaded)
    command.name = name
    return command
