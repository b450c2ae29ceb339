"""The display of an answer on a terminal, as a terminal shows it."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

import pyte
from rich.console import Console
from rich.text import Text

from mcp_server_claude.call_types import TextDelta
from mcp_server_claude.cli.answer_display import FRAMES_PER_S, LiveRegion, MarkdownDisplay

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult

ANSWER = """\
# Tea

A paragraph.

| name | price |
| --- | ---: |
| 抹茶 | 3.50 |

> A quote.

```python
first = 1


second = 2
```

The end."""


def terminal(columns: int = 60) -> Console:
    return Console(force_terminal=True, width=columns, height=40, file=io.StringIO(), legacy_windows=False)


def shown_lines(console: Console) -> list[str]:
    """The lines that a terminal shows after everything that was written."""
    screen = pyte.Screen(console.width, console.height)
    stream = pyte.Stream(screen)  # pyright: ignore[reportUnknownMemberType]
    assert isinstance(console.file, io.StringIO)
    stream.feed(console.file.getvalue().replace("\n", "\r\n"))  # pyright: ignore[reportUnknownMemberType]
    return "\n".join(line.rstrip() for line in screen.display).rstrip().split("\n")


def test_blocks_have_one_empty_line_between_them() -> None:
    console = terminal()
    with MarkdownDisplay(status=True, console=console) as display:
        for character in ANSWER:
            display.on_event(TextDelta(character))
    lines = shown_lines(console)
    code = lines.index(next(line for line in lines if "first = 1" in line))
    text = [*lines[: code - 1], "the code", *lines[code + 5 :]]
    assert "\n\n\n" not in "\n".join(text)
    assert lines[0].strip() == "Tea"
    assert lines[-1] == "The end."


def test_no_frame_is_drawn_within_a_print() -> None:
    console = terminal()
    frame = threading.Event()
    rows = ["status"]

    class SlowText:
        """A text that takes two frames to render, while the region grows."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            del console, options
            rows.insert(0, "preview")
            frame.clear()
            frame.wait(2 / FRAMES_PER_S)
            yield Text("heading")

    def render() -> Text:
        frame.set()
        return Text("\n".join(rows))

    with LiveRegion(render, console) as region:
        assert frame.wait(30)
        with region.paused():
            console.print(SlowText())
        rows.remove("preview")
    console.print("end")
    assert shown_lines(console) == ["heading", "end"]
