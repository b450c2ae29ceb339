"""Where the demo is shown: in a terminal with panels, or in plain lines for a pipe, a file and simple terminals.

Text arrives in pieces that are not words. Lines show whole words; panels show whole paragraphs as Markdown, and what
is still being written below them as it comes.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

from rich.console import Group
from rich.live import Live
from rich.markdown import Markdown
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mcp_server_claude import number_formatting

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

Fact: TypeAlias = tuple[str, str]
"""A short name and what there is to say about it."""

WIDEST = 100
FRAMES_PER_S = 12
LABEL = 11
NEXT = (
    ("mcp-server-claude demo --http", "the chat page in your browser, as simulated as this"),
    ("mcp-server-claude config", "the lines for Claude Code, Claude Desktop, Cursor, VS Code"),
    ("mcp-server-claude doctor", "whether your key, the API and the ledger are in order"),
)
UNIT = re.compile(r"\n[ \t]*\n|\n(?=[ \t]*(?:[-*+]|\d+[.)])[ \t])")
"""Where a paragraph or a list's item ends."""
FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)


class Page(Protocol):
    """Where one answer is written."""

    def write(self, piece: str) -> None:
        """Take in the next piece of the text."""
        ...

    def cut(self, why: str) -> None:
        """Note that the answer ends before its end; `why` in a word."""
        ...


class Screen(Protocol):
    """What the story needs of a screen."""

    def title(self, name: str, note: str) -> None:
        """Open with what this is."""
        ...

    def facts(self, *facts: Fact) -> None:
        """State some facts, a line each."""
        ...

    def answer(self, tool: str, prompt: str) -> AbstractContextManager[Page]:
        """Show a question, then its answer as it is written on the page."""
        ...

    def next_steps(self) -> None:
        """Close with what to do next."""
        ...


class Lines:
    """Plain lines; the answer flows word by word."""

    def __init__(self, console: Console) -> None:
        self._file = console.file

    def title(self, name: str, note: str) -> None:
        """A line."""
        self.say(f"{name}: {note}\n\n")

    def facts(self, *facts: Fact) -> None:
        """A line each."""
        self.say("".join(f"  {name:<{LABEL}}{told}\n" for name, told in facts) + "\n")

    @contextmanager
    def answer(self, tool: str, prompt: str) -> Generator[Page]:
        """The words as they come."""
        self.say(f"{tool}\n> {prompt}\n\n")
        page = Words(self)
        try:
            yield page
        except BaseException:
            page.cut("interrupted")
            raise
        finally:
            page.close()

    def next_steps(self) -> None:
        """A line each."""
        self.say("".join(f"{command}  {what}\n" for command, what in NEXT))

    def say(self, text: str) -> None:
        """Write at once."""
        self._file.write(text)
        self._file.flush()


class Words:
    """An answer in plain text, whole words at a time."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._pending = ""
        self._ending = ""

    def write(self, piece: str) -> None:
        """Pass on what is whole."""
        words, self._pending = _split(self._pending + piece, _words_end)
        self._lines.say(words)

    def cut(self, why: str) -> None:
        """Remember why."""
        self._ending = f"… [{why}]"

    def close(self) -> None:
        """Pass on the rest."""
        self._lines.say(f"{self._pending}{self._ending}\n\n")


class Panels:
    """Panels that fill while the answer is written."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def title(self, name: str, note: str) -> None:
        """A line in bold."""
        self._console.print(Text.assemble((name, "bold"), (f"  {note}", "dim")), end="\n\n")

    def facts(self, *facts: Fact) -> None:
        """A table without lines."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan", min_width=LABEL - 2, no_wrap=True)
        table.add_column(overflow="fold")
        for name, told in facts:
            table.add_row(f" {name}", Text(told))
        self._console.print(table, end="\n")
        self._console.print()

    @contextmanager
    def answer(self, tool: str, prompt: str) -> Generator[Page]:
        """The panel live, and once more for good when it is over."""
        self._console.print(Text.assemble((f"{tool}\n", "bold"), ("› ", "cyan"), (prompt, "italic")), width=self._width)
        page = Growing(self._width, max(6, self._console.height - 3))
        live = Live(console=self._console, get_renderable=lambda: page, refresh_per_second=FRAMES_PER_S, transient=True)
        try:
            with live:
                yield page
        except BaseException:
            page.cut("interrupted")
            raise
        finally:
            self._console.print(page.whole(), "")

    def next_steps(self) -> None:
        """The commands to go on with."""
        table = Table.grid(padding=(0, 2))
        for command, what in NEXT:
            table.add_row(Text(f" {command}", "bold cyan", no_wrap=True), Text(what, "dim"))
        self._console.print(table)

    @property
    def _width(self) -> int:
        return min(self._console.width - len("^C"), WIDEST)  # what the terminal itself writes at Ctrl-C fits too


class Growing:
    """The panel of an answer that is still being written: its end, as much of it as there is room for."""

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._height = height
        self._done = ""
        self._rest = ""
        self._body: RenderableType = Text()
        self._began = time.monotonic()
        self._cut = ""

    def write(self, piece: str) -> None:
        """Take in a piece; a paragraph that is whole becomes Markdown."""
        whole, self._rest = _split(self._rest + piece, _units_end)
        if whole:
            self._done += whole
            self._body = Markdown(self._done)

    def cut(self, why: str) -> None:
        """Remember why."""
        self._cut = why

    def whole(self) -> Panel:
        """The panel with everything in it, as tall as it is."""
        body = Markdown(self._done + self._rest.rstrip() + ("…" if self._cut else ""))
        return self._panel(body, "yellow" if self._cut else "green", self._cut or "complete")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        words, _ = _split(self._rest, _words_end)
        rest = Text.assemble(("\n" if self._done else "") + words.lstrip("\n"), ("▌", "cyan blink"))
        began = self._done or self._rest
        body = Tail(Group(*([self._body] if self._done else []), rest), self._height - 2)
        told = f"{'writing' if began else 'waiting'} · {number_formatting.seconds(time.monotonic() - self._began)}"
        yield self._panel(body, "cyan", told)

    def _panel(self, body: RenderableType, color: str, told: str) -> Panel:
        return Panel(
            body,
            title="Claude",
            title_align="left",
            subtitle=told,
            subtitle_align="right",
            border_style=color,
            width=self._width,
            padding=(0, 1),
        )


class Tail:
    """The last lines of something."""

    def __init__(self, body: RenderableType, height: int) -> None:
        self._body = body
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self._body, options)[-self._height :]:
            yield from line
            yield Segment.line()


def _split(text: str, end: Callable[[str], int]) -> tuple[str, str]:
    at = end(text)
    return text[:at], text[at:]


def _words_end(text: str) -> int:
    """Where the last whole word ends, with the space behind it."""
    return max((found.end() for found in re.finditer(r"\s", text)), default=0)


def _units_end(text: str) -> int:
    """Where the last whole paragraph or list item ends; not within a block of code."""
    ends = (found.end() for found in UNIT.finditer(text))
    return max((end for end in ends if len(FENCE.findall(text[:end])) % 2 == 0), default=0)
