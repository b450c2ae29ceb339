"""Output of the demo: in a terminal with panels, or in plain lines for a pipe, a file and simple terminals.

Text arrives in pieces that are not words. Lines show whole words; panels show Markdown, the unfinished block too.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

from rich.live import Live
from rich.markdown import Markdown
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mcp_server_claude import number_formatting
from mcp_server_claude.cli.answer_display import LastRows
from mcp_server_claude.cli.command_line import pasteable_command
from mcp_server_claude.cli.markdown_stream import MarkdownStream, provisional_markdown, without_control_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

Fact: TypeAlias = tuple[str, str]
"""A short name and what there is to say about it."""

MAX_WIDTH = 100
FRAMES_PER_S = 12
LABEL_WIDTH = 11
NEXT_STEPS = (
    (("demo", "--http"), "the chat page in your browser (also simulated)"),
    (("config",), "the configuration of your MCP client, ready to paste"),
    (("doctor",), "a check of your key, the API and the ledger"),
)
"""Arguments of this command, and what they show."""


class AnswerView(Protocol):
    """The view of one answer."""

    def write(self, piece: str) -> None:
        """Take in the next piece of the text."""
        ...

    def mark_incomplete(self, reason: str) -> None:
        """Mark the answer as incomplete; `reason` is one word."""
        ...


class DemoScreen(Protocol):
    """The screen of the demo."""

    def show_title(self, name: str, note: str) -> None:
        """Open with what this is."""
        ...

    def show_facts(self, *facts: Fact) -> None:
        """State some facts, a line each."""
        ...

    def show_answer(self, tool: str, prompt: str) -> AbstractContextManager[AnswerView]:
        """Show a question, then its answer as it is written on the page."""
        ...

    def show_next_steps(self) -> None:
        """Close with what to do next."""
        ...


class PlainScreen:
    """Plain lines; the answer flows word by word."""

    def __init__(self, console: Console) -> None:
        self._file = console.file

    def show_title(self, name: str, note: str) -> None:
        """A line."""
        self.write_now(f"{name}: {note}\n\n")

    def show_facts(self, *facts: Fact) -> None:
        """A line each."""
        self.write_now("".join(f"  {name:<{LABEL_WIDTH}}{value}\n" for name, value in facts) + "\n")

    @contextmanager
    def show_answer(self, tool: str, prompt: str) -> Generator[AnswerView]:
        """The words as they come."""
        self.write_now(f"{tool}\n> {prompt}\n\n")
        page = PlainAnswerView(self)
        try:
            yield page
        except BaseException:
            page.mark_incomplete("interrupted")
            raise
        finally:
            page.close()

    def show_next_steps(self) -> None:
        """A line each, in two columns."""
        steps = [(pasteable_command(*step), what) for step, what in NEXT_STEPS]
        width = max(len(command) for command, _ in steps)
        self.write_now("".join(f"{command:<{width}}  {what}\n" for command, what in steps))

    def write_now(self, text: str) -> None:
        """Write at once."""
        self._file.write(text)
        self._file.flush()


class PlainAnswerView:
    """An answer in plain text, whole words at a time."""

    def __init__(self, lines: PlainScreen) -> None:
        self._lines = lines
        self._pending = ""
        self._ending = ""

    def write(self, piece: str) -> None:
        """Pass on what is whole."""
        words, self._pending = _split_at(self._pending + piece, _words_end)
        self._lines.write_now(words)

    def mark_incomplete(self, reason: str) -> None:
        """Remember why."""
        self._ending = f"… [{reason}]"

    def close(self) -> None:
        """Pass on the rest."""
        self._lines.write_now(f"{self._pending}{self._ending}\n\n")


class PanelScreen:
    """Panels that fill while the answer is written."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show_title(self, name: str, note: str) -> None:
        """A line in bold."""
        self._console.print(Text.assemble((name, "bold"), (f"  {note}", "dim")), end="\n\n")

    def show_facts(self, *facts: Fact) -> None:
        """A table without lines."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan", min_width=LABEL_WIDTH - 2, no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in facts:
            table.add_row(f" {name}", Text(value))
        self._console.print(table, end="\n")
        self._console.print()

    @contextmanager
    def show_answer(self, tool: str, prompt: str) -> Generator[AnswerView]:
        """The panel while the answer streams, and its final state at the end."""
        self._console.print(Text.assemble((f"{tool}\n", "bold"), ("› ", "cyan"), (prompt, "italic")), width=self._width)
        page = PanelAnswerView(self._width, max(6, self._console.height - 3))
        live = Live(console=self._console, get_renderable=lambda: page, refresh_per_second=FRAMES_PER_S, transient=True)
        try:
            with live:
                yield page
        except BaseException:
            page.mark_incomplete("interrupted")
            raise
        finally:
            self._console.print(page.final_panel(), "")

    def show_next_steps(self) -> None:
        """The next commands, each whole on a line of its own where both columns do not fit."""
        steps = [(pasteable_command(*step), what) for step, what in NEXT_STEPS]
        width = max(len(command) for command, _ in steps)
        beside = max(len(what) for _, what in steps) + width + 3 <= self._console.width
        for command, what in steps:
            label = f" {command:<{width}}  " if beside else f" {command}\n   "
            self._console.print(Text.assemble((label, "bold cyan"), (what, "dim")), soft_wrap=True)

    @property
    def _width(self) -> int:
        return min(self._console.width - len("^C"), MAX_WIDTH)  # what the terminal itself writes at Ctrl-C fits too


class PanelAnswerView:
    """The panel of an answer that is still being written: its end, as much of it as there is room for."""

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._height = height
        self._finished_blocks = ""
        self._stream = MarkdownStream()
        self._began = time.monotonic()
        self._incomplete_reason = ""

    def write(self, piece: str) -> None:
        """Take in a piece."""
        self._finished_blocks += self._stream.feed_markdown(without_control_characters(piece))

    def mark_incomplete(self, reason: str) -> None:
        """Remember why."""
        self._incomplete_reason = reason

    def final_panel(self) -> Panel:
        """The panel with everything in it, as tall as it is."""
        body = Markdown(self._finished_blocks + self._stream.rest.rstrip() + ("…" if self._incomplete_reason else ""))
        return self._panel(
            body, "yellow" if self._incomplete_reason else "green", self._incomplete_reason or "complete"
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        words, _ = _split_at(self._stream.rest, _words_end)
        began = self._finished_blocks or self._stream.rest
        body = LastRows(Markdown(self._finished_blocks + provisional_markdown(words)), self._height - 2)
        status = (
            f"{'writing' if began else 'waiting'} · {number_formatting.format_seconds(time.monotonic() - self._began)}"
        )
        yield self._panel(body, "cyan", status)

    def _panel(self, body: RenderableType, color: str, status: str) -> Panel:
        return Panel(
            body,
            title="Claude",
            title_align="left",
            subtitle=status,
            subtitle_align="right",
            border_style=color,
            width=self._width,
            padding=(0, 1),
        )


def _split_at(text: str, end: Callable[[str], int]) -> tuple[str, str]:
    at = end(text)
    return text[:at], text[at:]


def _words_end(text: str) -> int:
    """The end of the last whole word, with the space behind it."""
    return max((found.end() for found in re.finditer(r"\s", text)), default=0)
