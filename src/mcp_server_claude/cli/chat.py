"""`mcp-server-claude chat`: a conversation in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from mcp_server_claude.cli.call_options import (
    ChatOptions,
    ContinueOption,
    EffortOption,
    FileOption,
    MaxUsdOption,
    ModelOption,
    SystemOption,
    ThreadOption,
    ToolOption,
)


def start_chat(
    file: FileOption = [],  # noqa: B006 - typer copies defaults
    system: SystemOption = "",
    model: ModelOption = "",
    effort: EffortOption = "",
    thread: ThreadOption = "",
    tool: ToolOption = [],  # noqa: B006 - typer copies defaults
    max_usd: MaxUsdOption = 0.0,
    *,
    resume: ContinueOption = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print answers as they are written, without Markdown.")
    ] = False,
) -> None:
    """Talk with Claude in the terminal.

    A line that ends with a backslash continues on the next one; three quotation marks begin and end a text of several
    lines. `/help` lists the commands. Ctrl-C stops an answer and keeps the text so far; Ctrl-D ends the conversation,
    which `--continue` takes up again.
    """
    from mcp_server_claude.cli.chat_session import run_chat

    options = ChatOptions(
        files=tuple(file),
        system=system,
        model=model,
        effort=effort,
        continues=resume,
        thread=thread,
        tools=tuple(str(each) for each in tool),
        max_usd=max_usd,
        plain=plain,
    )
    raise typer.Exit(run_chat(options))
