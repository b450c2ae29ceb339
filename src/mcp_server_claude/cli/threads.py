"""`mcp-server-claude threads`: list, search, show and export conversations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, TypeVar

import typer

from mcp_server_claude import number_formatting
from mcp_server_claude.calls.conversation_threads import ThreadTranscript
from mcp_server_claude.cli import terminal_output
from mcp_server_claude.cli.call_options import JsonOption
from mcp_server_claude.cli.command_group import subcommand_group
from mcp_server_claude.cli.markdown_stream import without_control_characters
from mcp_server_claude.errors import RequestError
from mcp_server_claude.server.tools.jobs import transcript_markdown
from mcp_server_claude.store import store_errors_as, thread_messages
from mcp_server_claude.users.user import LOCAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.thread_messages import Thread, ThreadMessage

T = TypeVar("T")

MAX_HEAD_CHARS = 60
CONTEXT_CHARS = 40
"""Characters shown on both sides of a match."""
UserOption: TypeAlias = Annotated[str, typer.Option(metavar="NAME", help="The conversations of this user.")]
ThreadArgument: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="The id of a conversation (t_…).")]

app = subcommand_group("List, search, show and export conversations.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadMatch:
    """A place in a conversation that holds the words of a search."""

    thread: Thread
    excerpt: str


@app.command("list")
def list_threads(
    number: Annotated[int, typer.Option("--number", "-n", min=1, max=10_000, help="Maximum number of rows.")] = 20,
    user: UserOption = LOCAL.name,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the latest conversations with their cost."""
    found = _read(partial(_read_latest, user=user.strip().lower(), number=number))
    if as_json:
        typer.echo(json.dumps([_thread_json(thread, micros) for thread, micros in found], indent=2, ensure_ascii=False))
        return
    if not found:
        typer.echo("There are no conversations.")
        return
    rows = [
        (
            thread.id,
            _time_text(thread.touched_at),
            thread.model,
            number_formatting.format_usd(micros / 1e6),
            _head(thread),
        )
        for thread, micros in found
    ]
    terminal_output.print_table(("thread", "latest (UTC)", "model", "cost", "first question"), rows, left=5)


@app.command("search")
def search_threads(
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="The text to look for, in any case.")],
    user: UserOption = LOCAL.name,
) -> None:
    """Find conversations that contain a text, the latest first. Exit code 1 if there are none."""
    matches = _read(partial(_find_matches, user=user.strip().lower(), text=" ".join(words)))
    for match in matches:
        typer.secho(f"{match.thread.id}  {_time_text(match.thread.touched_at)}  {_head(match.thread)}", bold=True)
        typer.echo(f"  {match.excerpt}")
    raise typer.Exit(0 if matches else 1)


@app.command("show")
def show_thread(thread: ThreadArgument, user: UserOption = LOCAL.name) -> None:
    """Print a conversation as Markdown."""
    transcript = _read(partial(_read_thread, user=user.strip().lower(), thread_id=thread.strip()))
    typer.echo(without_control_characters(transcript_markdown(transcript)))


@app.command("export")
def export_thread(
    thread: ThreadArgument,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A new file; stdout without one.")] = None,
    form: Annotated[
        Literal["markdown", "json"], typer.Option("--format", help="Markdown for people, JSON with all blocks.")
    ] = "markdown",
    user: UserOption = LOCAL.name,
) -> None:
    """Write a conversation to a file or stdout. An existing file is never overwritten."""
    transcript = _read(partial(_read_thread, user=user.strip().lower(), thread_id=thread.strip()))
    text = transcript_markdown(transcript) if form == "markdown" else _transcript_json(transcript)
    if file is None:
        typer.echo(text)
        return
    try:
        with file.open("x", encoding="utf-8") as target:
            target.write(text + "\n")
    except FileExistsError:
        raise RequestError(f"{file} already exists. Choose another name.") from None
    except OSError as error:
        raise terminal_output.file_error(f"{file} cannot be written", error) from None
    typer.echo(f"{file}: {number_formatting.format_count(len(transcript.turns), 'message')}", err=True)


def _read(operation: partial[T]) -> T:
    """Run an operation on the store in a transaction."""

    async def read(_: Settings, store: Store) -> T:
        with store_errors_as("The conversations could not be read"):
            return await store.read(operation)

    return terminal_output.run_with_store(read)


def _read_latest(tx: Transaction, *, user: str, number: int) -> list[tuple[Thread, int]]:
    return thread_messages.threads_with_cost(tx, user, number)


def _read_thread(tx: Transaction, *, user: str, thread_id: str) -> ThreadTranscript:
    thread = thread_messages.find_thread(tx, thread_id, user)
    if thread is None:
        raise RequestError(f"There is no conversation {thread_id[:40]!r}.", kind="not_found")
    return ThreadTranscript(thread=thread, turns=thread_messages.thread_history(tx, thread_id))


def _find_matches(tx: Transaction, *, user: str, text: str) -> list[ThreadMatch]:
    """The conversations with the text, each with its first match. Reads every message: they are kept for a month."""
    pattern = text.casefold()
    matches: list[ThreadMatch] = []
    for thread in thread_messages.recent_threads(tx, user, limit=1_000_000):
        for message in thread_messages.thread_history(tx, thread.id):
            content = _text_of(message)
            at = content.casefold().find(pattern)
            if at >= 0:
                matches.append(ThreadMatch(thread=thread, excerpt=_excerpt(content, at, len(text))))
                break
    return matches


def _text_of(message: ThreadMessage) -> str:
    return "\n".join(str(block.get("text") or "") for block in message.content if block.get("type") == "text")


def _excerpt(text: str, at: int, length: int) -> str:
    start, end = max(0, at - CONTEXT_CHARS), at + length + CONTEXT_CHARS
    cut = " ".join(without_control_characters(text[start:end]).split())
    return ("…" if start else "") + cut + ("…" if end < len(text) else "")


def _head(thread: Thread) -> str:
    return " ".join(without_control_characters(thread.head[:MAX_HEAD_CHARS]).split())


def _time_text(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def _thread_json(thread: Thread, micros: int) -> dict[str, object]:
    return {
        "id": thread.id,
        "began_with": thread.head,
        "model": thread.model,
        "started_at": datetime.fromtimestamp(thread.started_at, UTC).isoformat(),
        "latest_at": datetime.fromtimestamp(thread.touched_at, UTC).isoformat(),
        "cost_usd": micros / 1e6,
    }


def _transcript_json(transcript: ThreadTranscript) -> str:
    turns: Sequence[ThreadMessage] = transcript.turns
    value = {
        "id": transcript.thread.id,
        "system": transcript.thread.system,
        "messages": [{"role": turn.role, "model": turn.model, "content": list(turn.content)} for turn in turns],
    }
    return json.dumps(value, indent=2, ensure_ascii=False)
