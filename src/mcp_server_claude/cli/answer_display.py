"""Display of an answer while it is written: Markdown on a terminal, the plain text elsewhere.

On a terminal, finished blocks are printed for good and scroll away as text does; only the block that is being written
is drawn again. The status goes to stderr when stdout is no terminal, so that stdout holds the answer alone.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment
from rich.text import Text

from mcp_server_claude import number_formatting
from mcp_server_claude.call_types import MessageStart, TextDelta, TextPending, ThinkingProgress, ToolUse, Waiting
from mcp_server_claude.cli.markdown_stream import MarkdownStream, without_control_characters
from mcp_server_claude.status_text import printable_line, tool_text, waiting_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.console import ConsoleOptions, RenderableType, RenderResult

    from mcp_server_claude.call_types import CallEvent

FRAMES_PER_S = 12
MAX_STATUS_CHARS = 120


class AnswerDisplay(Protocol):
    """The display of one answer, used as a context manager around its call."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *failure: object) -> None: ...

    def on_event(self, event: CallEvent) -> None:
        """Take in an event of the call."""
        ...


class PlainDisplay:
    """The text of the answer on stdout as it arrives, byte for byte."""

    def __init__(self) -> None:
        self._last = "\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._last != "\n":
            sys.stdout.write("\n")
        sys.stdout.flush()

    def on_event(self, event: CallEvent) -> None:
        """Write a piece of the text."""
        if isinstance(event, TextDelta) and event.text:
            self._last = event.text[-1]
            sys.stdout.write(event.text)
            sys.stdout.flush()


class SilentDisplay:
    """Nothing: the result is printed when it is complete. A status line on stderr, if that is a terminal."""

    def __init__(self, *, status: bool) -> None:
        console = Console(stderr=True, highlight=False)
        self._status = StatusText()
        self._live = Live(self._status, console=console, refresh_per_second=FRAMES_PER_S, transient=True)
        self._shows_status = status and console.is_terminal

    def __enter__(self) -> Self:
        if self._shows_status:
            self._live.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self._shows_status:
            self._live.stop()

    def on_event(self, event: CallEvent) -> None:
        """Update the status."""
        self._status.on_event(event)


class MarkdownDisplay:
    """The answer as Markdown on a terminal, with a status line below it."""

    def __init__(self, *, status: bool, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._stream = MarkdownStream()
        self._status = StatusText()
        self._shows_status = status
        self._region = LiveRegion(self._unfinished, self._console)
        self._region_exit = ExitStack()

    def __enter__(self) -> Self:
        self._region_exit.enter_context(self._region)
        return self

    def __exit__(self, *failure: object) -> None:
        self._region_exit.close()
        if self._stream.rest.strip():
            self._console.print(CompactMarkdown(self._stream.rest))

    def on_event(self, event: CallEvent) -> None:
        """Print the blocks that the event finishes."""
        with self._region.paused():
            self._status.on_event(event)
            if isinstance(event, TextDelta) and (
                finished := self._stream.feed_markdown(without_control_characters(event.text)).strip("\n")
            ):
                self._console.print(CompactMarkdown(finished))
                self._console.print()

    def _unfinished(self) -> RenderableType:
        parts: list[RenderableType] = []
        if preview := self._stream.preview.strip("\n"):
            parts.append(CompactMarkdown(preview))
        if self._shows_status:
            parts.append(self._status)
        return LastRows(Group(*parts), max(3, self._console.height - 2))


class LiveRegion:
    """The rows of a terminal below what is printed; they are drawn again several times a second.

    `Live` has a thread for this too, but that can draw a frame between the steps of a print, which then overwrites
    rows or leaves some behind (rich 15.0).
    """

    def __init__(self, render: Callable[[], RenderableType], console: Console) -> None:
        self._live = Live(
            get_renderable=render,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._lock = threading.RLock()
        self._has_ended = threading.Event()
        self._frames = threading.Thread(target=self._draw_frames, daemon=True)

    def __enter__(self) -> Self:
        self._live.start()
        self._frames.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._has_ended.set()
        self._frames.join()
        self._live.stop()

    @contextmanager
    def paused(self) -> Generator[None]:
        """Draw no frame while the block changes the region or prints above it."""
        with self._lock:
            yield

    def _draw_frames(self) -> None:
        while not self._has_ended.wait(1 / FRAMES_PER_S):
            with self._lock:
                self._live.refresh()


class CompactMarkdown:
    """Markdown without empty rows at its ends, and with one at most between its blocks."""

    def __init__(self, text: str) -> None:
        self._body = Markdown(text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        gap, has_rows = False, False
        for line in console.render_lines(self._body, options, pad=False):
            if all(not segment.text.strip() and not _has_background(segment) for segment in line):
                gap = has_rows
                continue
            if gap:
                yield Segment.line()
            yield from line
            yield Segment.line()
            gap, has_rows = False, True


def _has_background(segment: Segment) -> bool:
    return segment.style is not None and segment.style.bgcolor is not None


class StatusText:
    """One line on the state of a call: `writing · 812 tokens · 12 s`."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._state = "waiting"
        self._chars = 0

    def on_event(self, event: CallEvent) -> None:
        """Take in an event."""
        match event:
            case TextDelta():
                self._chars += len(event.text)
                self._state = f"writing · {number_formatting.format_count(self._chars, 'character')}"
            case TextPending():
                self._state = f"writing · {number_formatting.format_count(event.chars, 'character')}"
            case ThinkingProgress():
                counted = f" · {number_formatting.format_tokens(event.tokens)} tokens" if event.tokens else ""
                self._state = f"thinking{counted}"
            case ToolUse():
                self._state = tool_text(event.tool, event.query)
            case Waiting():
                self._state = waiting_text(event)
            case MessageStart():
                self._state = "answering"
            case _:
                pass

    def __rich__(self) -> Text:
        state = printable_line(self._state)[:MAX_STATUS_CHARS]
        elapsed = number_formatting.format_seconds(time.monotonic() - self._began)
        return Text(f"{state} · {elapsed}", "dim", no_wrap=True)


class LastRows:
    """The last rows of something that may be taller than the terminal."""

    def __init__(self, body: RenderableType, height: int) -> None:
        self._body = body
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self._body, options, pad=False)[-self._height :]:
            yield from line
            yield Segment.line()
