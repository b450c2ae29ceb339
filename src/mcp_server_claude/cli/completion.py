"""`mcp-server-claude completion`: the script with which a shell completes commands and options."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from typer._completion_shared import get_completion_script  # typer has no public name for it

from mcp_server_claude.cli.command_line import COMMAND_NAME, COMPLETION_VARIABLE


def print_completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="The shell to print it for.")],
) -> None:
    """Print the completion script of a shell.

    bash: `eval "$(mcp-server-claude completion bash)"` in ~/.bashrc.
    zsh: the same with zsh in ~/.zshrc, after compinit.
    fish: `mcp-server-claude completion fish > ~/.config/fish/completions/mcp-server-claude.fish`.
    """
    typer.echo(get_completion_script(prog_name=COMMAND_NAME, complete_var=COMPLETION_VARIABLE, shell=shell))
