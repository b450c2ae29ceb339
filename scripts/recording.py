#!/usr/bin/env python3
"""Record the demo in a terminal and write it as an animated SVG: `docs/images/demo.svg`.

The frames stand below each other, and one animation moves the right one into view. Needs a POSIX system and `pyte`.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyte

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "images" / "demo.svg"
COLUMNS, ROWS = 98, 34
CELL_WIDTH, CELL_HEIGHT, MARGIN = 8.4, 17, 14
FRAME_INTERVAL_S = 0.25
LAST_FRAME_S = 4.0
COLOURS = {
    "default": "#e6e1dc",
    "black": "#6b6661",
    "red": "#e5786d",
    "green": "#8fbf7f",
    "brown": "#d9a05b",
    "yellow": "#d9a05b",
    "blue": "#7aa6da",
    "magenta": "#c397d8",
    "cyan": "#70c0b1",
    "white": "#f5f2ee",
}
BACKGROUND = "#1f1d1b"


@dataclass(frozen=True, slots=True)
class TerminalFrame:
    """The screen from a time on, in seconds since the start: its lines as SVG text."""

    at_s: float
    lines: tuple[str, ...]


def main() -> int:
    """Record the demo."""
    frames = list(record([str(ROOT / "scripts" / "demo")]))
    PICTURE.write_text(draw(frames), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}: {len(frames)} frames, {PICTURE.stat().st_size // 1000} kB")
    return 0


def record(command: Sequence[str]) -> Iterator[TerminalFrame]:
    """The different screens that a command shows, at most one for each interval."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    last = TerminalFrame(-1.0, ())
    end_s = 0.0
    for end_s, output in capture(command):
        stream.feed(output)
        if end_s - last.at_s >= FRAME_INTERVAL_S and (lines := screen_lines(screen)) != last.lines:
            last = TerminalFrame(end_s, lines)
            yield last
    yield TerminalFrame(end_s, screen_lines(screen))


def capture(command: Sequence[str]) -> list[tuple[float, bytes]]:
    """What a command writes to a terminal, each piece with its time in seconds. Nothing else is done, so that it is
    never slowed down by its reader.
    """
    main_end, child_end = pty.openpty()
    fcntl.ioctl(child_end, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    process = subprocess.Popen(command, stdin=child_end, stdout=child_end, stderr=child_end, env=environment)  # noqa: S603 - our own script
    os.close(child_end)
    start, pieces = time.monotonic(), list[tuple[float, bytes]]()
    with suppress(OSError):  # Linux reports the end of a terminal so
        while output := os.read(main_end, 65_536):
            pieces.append((time.monotonic() - start, output))
    process.wait()
    return pieces


def screen_lines(screen: pyte.Screen) -> tuple[str, ...]:
    """Each line of the screen as SVG spans, one for each run of characters that look alike."""
    return tuple(_line(screen.buffer[row]) for row in range(ROWS))


def _line(cells: Any) -> str:
    spans: list[str] = []
    text, style, begin = "", "", 0
    for column in range(COLUMNS + 1):
        cell = cells[column] if column < COLUMNS else None
        now = _style(cell) if cell is not None else "end"
        if now != style:
            if text.strip():
                x = MARGIN + (begin + len(text) - len(text.lstrip())) * CELL_WIDTH
                width = len(text.strip()) * CELL_WIDTH
                spans.append(f'<tspan x="{x:g}" textLength="{width:g}"{style}>{escape(text.strip())}</tspan>')
            text, style, begin = "", now, column
        if cell is not None:
            text += cell.data
    return "".join(spans)


def _style(cell: Any) -> str:
    colour = COLOURS.get(cell.fg.removeprefix("bright"), f"#{cell.fg}" if len(cell.fg) == len("ffffff") else None)
    style = "" if colour in {None, COLOURS["default"]} else f' fill="{colour}"'
    return style + (' font-weight="bold"' if cell.bold else "") + (' font-style="italic"' if cell.italics else "")


def draw(frames: Sequence[TerminalFrame]) -> str:
    """The animated picture; without animation it shows the last frame."""
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, ROWS * CELL_HEIGHT + 2 * MARGIN
    first = frames[0].at_s
    total = frames[-1].at_s - first + LAST_FRAME_S
    steps = "".join(
        f"{(frame.at_s - first) / total:.3%}{{transform:translateY(-{number * height:g}px)}}"
        for number, frame in enumerate(frames)
    )
    drawn = "".join(
        f'<text y="{number * height + MARGIN + (row + 0.8) * CELL_HEIGHT:g}">{line}</text>'
        for number, frame in enumerate(frames)
        for row, line in enumerate(frame.lines)
        if line
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">'
        "<title>The demo in a terminal: an answer streams, then a second call is cancelled</title>"
        f"<style>text{{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:{COLOURS['default']};"
        f"white-space:pre}}.f{{transform:translateY(-{(len(frames) - 1) * height:g}px);animation:f {total:.1f}s "
        "step-end infinite}@media(prefers-reduced-motion:reduce){.f{animation:none}}"
        f"@keyframes f{{{steps}}}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/><g class="f">{drawn}</g></svg>\n'
    )


if __name__ == "__main__":
    sys.exit(main())
