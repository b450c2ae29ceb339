"""Options that several commands share, each defined once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Annotated, Literal, TypeAlias

import typer

MAX_USD = 1_000_000
"""The largest `--max-usd`, as over MCP and HTTP."""


class ToolChoice(StrEnum):
    """The tools that Claude may use; typer takes no list of a `Literal`."""

    WEB = "web"
    CODE = "code"
    READ = "read"


def complete_model(incomplete: str) -> list[str]:
    """The names of models that begin with what is typed; what finds them is imported here, when a shell asks."""
    names: tuple[str, ...] = import_module("mcp_server_claude.cli.model_completion").model_names()
    return [name for name in names if name.startswith(incomplete)]


ModelOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="A family (opus, sonnet, haiku, fable) for its newest model, or an id.",
        autocompletion=complete_model,
    ),
]
EffortOption: TypeAlias = Annotated[
    Literal["", "low", "medium", "high", "xhigh", "max"],
    typer.Option(
        "--effort",
        metavar="<low|medium|high|xhigh|max>",
        help="How hard to think. Default: the model's own.",
        show_default=False,
    ),
]
SystemOption: TypeAlias = Annotated[
    str, typer.Option("--system", "-s", metavar="TEXT", help="Role and rules for the answer.")
]
FileOption: TypeAlias = Annotated[
    list[str],
    typer.Option("--file", "-f", metavar="FILE", help="A path, glob, https URL or file id to send along. Repeatable."),
]
ToolOption: TypeAlias = Annotated[
    list[ToolChoice],
    typer.Option(
        "--tool", help="web: search and cite. code: run code. read: read files below this directory. Repeatable."
    ),
]
ThreadOption: TypeAlias = Annotated[
    str, typer.Option("--thread", "-t", metavar="ID", help="Continue the conversation of this id (t_…).")
]
ContinueOption: TypeAlias = Annotated[bool, typer.Option("--continue", "-c", help="Continue the latest conversation.")]
MaxUsdOption: TypeAlias = Annotated[
    float,
    typer.Option("--max-usd", min=0, max=MAX_USD, metavar="USD", help="Maximum cost of the answer; 0 for no limit."),
]
MaxTokensOption: TypeAlias = Annotated[
    int,
    typer.Option("--max-tokens", min=0, metavar="N", help="Maximum number of output tokens; 0 for the model's limit."),
]
SchemaOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--schema", metavar="SCHEMA", help="Answer as JSON: 'name, age int, tags [str]', JSON Schema, or a file."
    ),
]
ApprovedOption: TypeAlias = Annotated[
    bool, typer.Option("--yes", "-y", help="Approve a cost above MCP_CLAUDE_CONFIRM_ABOVE_USD without being asked.")
]
BatchOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--batch",
        help="Send a batch: half the price, within 24 hours. Ctrl-C ends the wait, not the job.",
    ),
]
QuietOption: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print no status and no line on cost.")]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOptions:
    """The options of one question."""

    prompt: str
    files: list[str]
    system: str
    model: str
    effort: str
    continues: bool
    thread: str
    schema: str
    code_only: bool
    tools: list[str]
    max_tokens: int
    max_usd: float
    batch: bool
    dry_run: bool
    approved: bool
    as_json: bool
    quiet: bool


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """The options of one prompt over many items."""

    prompt: str
    sources: list[str]
    output: str
    system: str
    model: str
    effort: str
    schema: str
    max_usd: float
    batch: bool
    dry_run: bool
    approved: bool
    as_json: bool
    quiet: bool
