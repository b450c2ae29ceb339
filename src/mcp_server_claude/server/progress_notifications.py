"""Progress told to a client: the pump between an upstream that must never wait and a client that may be slow.

The engine's events are heard at once and gathered; one task sends them on. When a client stops reading, only that
task waits, and at the end for a second at most. Two styles:

* `text`: only answer text has a message, and the messages joined are exactly the final text. Stages, waits and
  heartbeats come without a message.
* `status`: one line for a person, at most 190 characters and two a second, since such clients show only the latest.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio

from mcp_server_claude import number_formatting, pricing, status_text
from mcp_server_claude.call_types import (
    CHARS_PER_TOKEN,
    Drafting,
    Event,
    Searching,
    Started,
    Text,
    Thinking,
    Usage,
    Waiting,
)
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp_server_claude.settings import Settings

Style: TypeAlias = Literal["text", "status"]
Report: TypeAlias = Callable[[float, str | None], Awaitable[None]]
"""Sends one notification: `progress` (strictly increasing) and a message, or none."""

STATUS_INTERVAL_S = 0.5
"""Clients that show one line repaint it every 0.6 to 0.9 s; more than two a second is wasted (measured)."""
THINKING_S = 2.0
"""Seconds between two looks of a person at a model that only thinks."""
STATUS_LENGTH = 190
"""Claude Code cuts a message at 199 characters and hides what follows (measured)."""
DRAIN_S = 1.0
"""Seconds that a client which does not read can hold up the answer at its end."""
DRAIN_LOOKS = 10
"""How often it is looked at in these seconds: a look that is late, because this process is busy, counts once."""
LARGEST = 64 * 1024
"""Characters in one message: the SDK's HTTP client refuses an event over 1 MiB."""

SHOWS_ONLY_THE_LATEST = ("claude-code", "claude-ai", "inspector")
"""Clients known to show only the latest message, by what their name contains."""


def style_for(client: str, configured: Literal["auto", "text", "status"], asked: object = None) -> Style:
    """The style of a call: what the request asked for, else what is configured, else what suits the client."""
    if isinstance(asked, str) and asked in {"text", "status"}:
        return "text" if asked == "text" else "status"
    if configured != "auto":
        return configured
    return "status" if any(name in client.lower() for name in SHOWS_ONLY_THE_LATEST) else "text"


@asynccontextmanager
async def pump(report: Report, style: Style, settings: Settings) -> AsyncGenerator[Pump]:
    """A pump that runs while the block does, sends its first notification at once, and ends drained."""
    each = STATUS_INTERVAL_S if style == "status" else settings.progress_interval_s
    running = Pump(report, style, interval=each, heartbeat=settings.heartbeat_s)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.run)
        try:
            yield running
        except Exception as error:  # noqa: BLE001 - raised again below: a task group would wrap it in a group
            failure = error
        running.finish()
        await running.drained()
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Pump:
    """Hears events (`hear`) without ever waiting, and sends them on at its own pace (`run`)."""

    def __init__(self, report: Report, style: Style, *, interval: float, heartbeat: float) -> None:
        self._report = report
        self._interval = interval
        self._heartbeat = heartbeat
        self._line = Line() if style == "status" else None
        self._pending: list[str] = []
        self._last = 0
        self._chars = 0
        self._drafted = 0
        self._stage = ""
        self._gone = False
        self._news = anyio.Event()
        self._finished = anyio.Event()
        self._ended = anyio.Event()

    def hear(self, event: Event) -> None:
        """Take note of an event. In style `text` a stage wakes the pump only when it is a new one."""
        if type(event) is Text:
            self._pending.append(event.text)
            self._chars += len(event.text)
            self._news.set()
            return
        if self._line is not None:
            self._line.note(event)
        if isinstance(event, Drafting):
            self._drafted = event.chars
        stage = type(event).__name__
        lively = (Waiting, Searching) if self._line is None else (Waiting, Searching, Drafting, Thinking)
        if stage != self._stage or isinstance(event, lively):
            self._stage = stage
            self._news.set()

    def finish(self) -> None:
        """Nothing more will come: send what is pending and end."""
        self._finished.set()
        self._news.set()

    async def drained(self) -> None:
        """Wait until all is sent, or the client has taken nothing for `DRAIN_S`."""
        idle = 0
        while idle < DRAIN_LOOKS and not self._ended.is_set():
            before = self._last
            with anyio.move_on_after(DRAIN_S / DRAIN_LOOKS):
                await self._ended.wait()
            idle = idle + 1 if self._last == before else 0

    async def run(self) -> None:
        """Send until finished: the first at once, then what is new, a heartbeat when there is nothing."""
        try:
            await self._run()
        finally:
            self._ended.set()

    async def _run(self) -> None:
        await self._send(self._line.text() if self._line else None)
        while True:
            with anyio.move_on_after(self._patience):
                await self._news.wait()
            self._news = anyio.Event()
            last = self._finished.is_set()
            told = await self._flush(last=last)
            if last:
                return
            if not told:
                continue  # a stage without words does not hold up the first words after it
            with anyio.move_on_after(self._interval):
                await self._finished.wait()
            if self._finished.is_set():
                self._news.set()

    @property
    def _patience(self) -> float:
        """Seconds of silence: a person sees the seconds of thinking go by, also where nothing tells of them."""
        thinks = self._line is not None and self._stage == Thinking.__name__
        return min(self._heartbeat, THINKING_S) if thinks else self._heartbeat

    async def _flush(self, *, last: bool) -> bool:
        """Send what there is; whether it had a message."""
        text, self._pending = "".join(self._pending), []
        if self._line is not None:
            self._line.write(text)
            if not last:
                await self._send(self._line.text())
            return True
        if not last and text and _is_half(text[-1]):
            text, self._pending = text[:-1], [text[-1]]  # its other half is still to come
        if not text and not last:
            await self._send(None)
        text = replace_lone_surrogates(text)
        for start in range(0, len(text), LARGEST):
            await self._send(text[start : start + LARGEST])
        return bool(text)

    async def _send(self, message: str | None) -> None:
        self._last = max(self._last + 1, round(max(self._chars, self._drafted) / CHARS_PER_TOKEN))
        if not self._gone:
            try:
                await self._report(self._last, message)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                self._gone = True  # nobody listens any more; whether the call ends is not the pump's to decide


class Line:
    """The one line of style `status`: `opus-5-5 · writing · 812 tokens · $0.016 · 12 s · …last words`."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._usage = Usage()
        self._stage = "starting"
        self._since = self._began
        self._chars = 0
        self._thought = 0
        self._tail = ""

    def note(self, event: Event) -> None:
        """Take in what happened, other than text."""
        match event:
            case Started(usage=usage):
                self._usage = usage
                self._enter("reading")
            case Thinking(tokens=tokens):
                self._thought = tokens
                self._enter("thinking")
            case Searching(tool=tool, query=query):
                self._enter(status_text.tool_text(tool, query[:60]))
            case Waiting():
                self._enter(status_text.waiting_text(event))
            case Drafting(chars=chars):
                self._chars = chars
                self._enter("writing")
            case Text():
                pass

    def write(self, text: str) -> None:
        """Take in answer text."""
        if text:
            self._chars += len(text)
            self._tail = " ".join((self._tail + replace_lone_surrogates(text)[-2 * STATUS_LENGTH :]).split())[
                -STATUS_LENGTH:
            ]
            self._enter("writing")

    def text(self) -> str:
        """The line as it stands now, at most `STATUS_LENGTH` characters."""
        now = time.monotonic()
        stage = self._stage if self._stage != "thinking" else f"thinking {number_formatting.seconds(now - self._since)}"
        written = round(self._chars / CHARS_PER_TOKEN) + self._thought
        parts = [self._usage.model.removeprefix("claude-"), stage]
        if written:
            parts.append(f"{number_formatting.tokens(written)} tokens")
        if self._usage.model:
            cost = pricing.cost(self._usage.model, replace(self._usage, output_tokens=written))
            parts += [number_formatting.dollars(float(cost))] if cost is not None else []
        parts.append(number_formatting.seconds(now - self._began))
        line = " · ".join(part for part in parts if part)
        room = STATUS_LENGTH - len(line) - len(" · …")
        if self._tail and room > 10:
            words = self._tail[-room:]
            line += f" · …{words}" if len(words) < len(self._tail) or self._chars > len(self._tail) else f" · {words}"
        return status_text.printable_line(line)[:STATUS_LENGTH]

    def _enter(self, stage: str) -> None:
        if stage != self._stage:
            self._stage, self._since = stage, time.monotonic()


def _is_half(character: str) -> bool:
    """Whether a character is the first half of a surrogate pair."""
    return "\ud800" <= character <= "\udbff"
