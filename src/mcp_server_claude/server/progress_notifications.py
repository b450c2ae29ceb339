"""Progress notifications to a client: the reporter between an upstream that must never wait and a slow client.

The engine's events are received at once and batched; one task sends them on. When a client stops reading, only that
task waits, and at the end for a second at most. Two styles:

* `text`: only answer text has a message, and the messages joined are exactly the final text. Stages, waits and
  heartbeats come without a message.
* `status`: one line for a person, at most 190 characters and two a second, since such clients show only the latest.
  A tool that ended between two lines is still named in the next one.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio

from mcp_server_claude import number_formatting, pricing, status_text
from mcp_server_claude.call_types import (
    CHARS_PER_TOKEN,
    CallEvent,
    MessageStart,
    TextDelta,
    TextPending,
    ThinkingProgress,
    ToolUse,
    Usage,
    Waiting,
)
from mcp_server_claude.delivery_clock import DeliverySignal
from mcp_server_claude.server.progress_frames import ProgressFrames

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp_server_claude.server.progress_frames import SendProgress
    from mcp_server_claude.settings import Settings

ProgressStyle: TypeAlias = Literal["text", "status"]

STATUS_INTERVAL_S = 0.5
"""Clients that show one line repaint it every 0.6 to 0.9 s; more than two a second is wasted (measured)."""
THINKING_UPDATE_INTERVAL_S = 2.0
"""Seconds between two looks of a person at a model that only thinks."""
MAX_STATUS_LINE_CHARS = 190
"""Claude Code cuts a message at 199 characters and hides what follows (measured)."""
MAX_UNNAMED_TOOLS = 3
"""Uses of tools that wait for a line of their own: at two lines a second, the line lags behind by 1.5 s at most."""
DRAIN_TIMEOUT_S = 1.0
"""Seconds that a client which does not read can hold up the answer at its end."""
DRAIN_CHECKS = 10
"""How often it is looked at in these seconds: a look that is late, because this process is busy, counts once."""
MAX_MESSAGE_CHARS = 64 * 1024
"""Characters in one message: the SDK's HTTP client refuses an event over 1 MiB."""


def progress_style(
    *, shows_latest: bool, configured: Literal["auto", "text", "status"], requested: object = None
) -> ProgressStyle:
    """The style of a call: what the request asked for, else what is configured, else what suits the client.

    `shows_latest`: the client shows only the latest message.
    """
    if isinstance(requested, str) and requested in {"text", "status"}:
        return "text" if requested == "text" else "status"
    if configured != "auto":
        return configured
    return "status" if shows_latest else "text"


@asynccontextmanager
async def progress_reporter(
    send_progress: SendProgress, style: ProgressStyle, settings: Settings, *, first_stage: str = "starting"
) -> AsyncGenerator[ProgressReporter]:
    """A reporter that runs during the block, sends its first notification at once, and ends when all is sent."""
    each = STATUS_INTERVAL_S if style == "status" else settings.progress_interval_s
    running = ProgressReporter(send_progress, style, interval=each, heartbeat=settings.heartbeat_s)
    running.begin_stage(first_stage)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.send_until_finished)
        try:
            yield running
        except Exception as error:  # noqa: BLE001 - raised again below: a task group would wrap it in a group
            failure = error
        running.finish_reporting()
        if not await running.wait_until_sent():
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


class ProgressReporter:
    """Takes events without ever waiting (`queue_event`), and sends them at its own pace (`send_until_finished`).

    Their text holds no lone surrogates: `AnswerBuffer` publishes none.
    """

    def __init__(self, send_progress: SendProgress, style: ProgressStyle, *, interval: float, heartbeat: float) -> None:
        self._send_progress = send_progress
        self._interval = interval
        self._heartbeat = heartbeat
        self._status_line = StatusLine() if style == "status" else None
        self._pending: list[str] = []
        self._last_progress = 0
        self._chars = 0
        self._pending_chars = 0
        self._stage = ""
        self._client_gone = False
        self._update = DeliverySignal()
        self._end = DeliverySignal()

    def begin_stage(self, stage: str) -> None:
        """Set what the status line says until the first event."""
        if self._status_line is not None:
            self._status_line.begin_stage(stage)

    def queue_event(self, event: CallEvent) -> None:
        """Record an event. In style `text` a stage wakes the reporter only if it is a new one."""
        if type(event) is TextDelta:
            self._pending.append(event.text)
            self._chars += len(event.text)
            self._update.set()
            return
        if self._status_line is not None:
            self._status_line.update_stage(event)
        if isinstance(event, TextPending):
            self._pending_chars = event.chars
        stage = type(event).__name__
        lively = (Waiting, ToolUse) if self._status_line is None else (Waiting, ToolUse, TextPending, ThinkingProgress)
        if stage != self._stage or isinstance(event, lively):
            self._stage = stage
            self._update.set()

    def finish_reporting(self) -> None:
        """Nothing more will come: send what is pending and end."""
        self._update.close()

    async def wait_until_sent(self) -> bool:
        """Wait until all is sent.

        Returns:
            False if the client has taken nothing for `DRAIN_TIMEOUT_S`, of this request or another.
        """
        idle = 0
        while idle < DRAIN_CHECKS and not self._end.is_closed:
            before = self._last_progress, self._bytes_taken()
            await self._end.wait(DRAIN_TIMEOUT_S / DRAIN_CHECKS)
            idle = idle + 1 if (self._last_progress, self._bytes_taken()) == before else 0
        return self._end.is_closed

    def _bytes_taken(self) -> int:
        """The bytes that the connection has taken, where that is known: its client may read what others sent first."""
        return self._send_progress.bytes_taken if isinstance(self._send_progress, ProgressFrames) else 0

    async def send_until_finished(self) -> None:
        """Send until finished: the first at once, then what is new, a heartbeat when there is nothing."""
        try:
            await self._send_loop()
        finally:
            self._end.close()

    async def _send_loop(self) -> None:
        if self._status_line is None:
            await self._send_notification(None)
        else:
            await self._send_line(self._status_line)
        while True:
            await self._update.wait(self._silence_timeout_s)
            last = self._update.is_closed
            sent_message = await self._send_pending(last=last)
            if last:
                return
            if sent_message:  # a stage without words does not hold up the first words after it
                await self._update.rest_for(self._interval)

    @property
    def _silence_timeout_s(self) -> float:
        """Seconds of silence: a person sees the seconds of thinking, even without events."""
        thinks = self._status_line is not None and self._stage == ThinkingProgress.__name__
        return min(self._heartbeat, THINKING_UPDATE_INTERVAL_S) if thinks else self._heartbeat

    async def _send_pending(self, *, last: bool) -> bool:
        """Send what there is; whether it had a message."""
        text, self._pending = "".join(self._pending), []
        if self._status_line is not None:
            self._status_line.add_text(text)
            if not last:
                await self._send_line(self._status_line)
            while last and self._status_line.names_earlier_tool:
                await self._send_line(self._status_line)
            return True
        if not text and not last:
            await self._send_notification(None)
        for start in range(0, len(text), MAX_MESSAGE_CHARS):
            await self._send_notification(text[start : start + MAX_MESSAGE_CHARS])
        return bool(text)

    async def _send_line(self, line: StatusLine) -> None:
        """Send the line. One that named a tool of before is followed by another, which says how things stand."""
        if line.names_earlier_tool:
            self._update.set()
        message = line.render()
        line.drop_named_tool()
        await self._send_notification(message)

    async def _send_notification(self, message: str | None) -> None:
        self._last_progress = max(
            self._last_progress + 1, round(max(self._chars, self._pending_chars) / CHARS_PER_TOKEN)
        )
        if not self._client_gone:
            try:
                await self._send_progress(self._last_progress, message)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                self._client_gone = True  # whether the call ends is decided elsewhere


class StatusLine:
    """The one line of style `status`: `opus-5-5 · writing · 812 tokens · $0.016 · 12 s · …last words`.

    `elapsed_s` is the number of seconds since the call began.
    """

    def __init__(self, elapsed_s: float = 0.0) -> None:
        self._started_at = time.monotonic() - elapsed_s
        self._usage = Usage()
        self._stage = "starting"
        self._stage_started_at = self._started_at
        self._chars = 0
        self._thinking_tokens = 0
        self._last_words = ""
        self._summary = ""
        self._unnamed_tools: deque[str] = deque(maxlen=MAX_UNNAMED_TOOLS)

    @property
    def names_earlier_tool(self) -> bool:
        """True if the line names a tool whose stage is over."""
        return bool(self._unnamed_tools) and self._unnamed_tools[0] != self._stage

    def update_stage(self, event: CallEvent) -> None:
        """Take in what happened, other than text."""
        match event:
            case MessageStart(usage=usage):
                self._usage = usage
                self.begin_stage("reading")
            case ThinkingProgress(tokens=tokens, summary=summary):
                self._thinking_tokens, self._summary = tokens, summary
                self.begin_stage("thinking")
            case ToolUse(tool=tool, query=query):
                self._begin_tool_stage(tool, query[:60])
            case Waiting():
                self.begin_stage(status_text.waiting_text(event))
            case TextPending(chars=chars):
                self._chars = chars
                self.begin_stage("writing")
            case TextDelta():
                pass

    def add_text(self, text: str) -> None:
        """Take in answer text."""
        if text:
            self._chars += len(text)
            words = self._last_words + text[-2 * MAX_STATUS_LINE_CHARS :]
            # A trailing space stays, so that the next piece is not glued to the last word.
            trailing = " " if words[-1].isspace() else ""
            self._last_words = (" ".join(words.split()) + trailing)[-MAX_STATUS_LINE_CHARS:]
            self.begin_stage("writing")

    def render(self) -> str:
        """The line as it stands now, at most `MAX_STATUS_LINE_CHARS` characters."""
        now = time.monotonic()
        stage = self._unnamed_tools[0] if self._unnamed_tools else self._stage
        if stage == "thinking":
            stage = f"thinking {number_formatting.format_seconds(now - self._stage_started_at)}"
        written = round(self._chars / CHARS_PER_TOKEN) + self._thinking_tokens
        parts = [self._usage.model.removeprefix("claude-"), stage]
        if written:
            parts.append(f"{number_formatting.format_tokens(written)} tokens")
        if self._usage.model:
            cost = pricing.request_cost(self._usage.model, replace(self._usage, output_tokens=written))
            parts += [number_formatting.format_usd(float(cost))] if cost is not None else []
        parts.append(number_formatting.format_seconds(now - self._started_at))
        line = " · ".join(part for part in parts if part)
        room = MAX_STATUS_LINE_CHARS - len(line) - len(" · …")
        if self._summary and self._stage == "thinking" and room > 10:
            line += f" · {self._summary}"
        elif self._last_words and room > 10:
            words = self._last_words[-room:]
            line += (
                f" · …{words}"
                if len(words) < len(self._last_words) or self._chars > len(self._last_words)
                else f" · {words}"
            )
        return status_text.printable_line(line)[:MAX_STATUS_LINE_CHARS].rstrip()

    def drop_named_tool(self) -> None:
        """Forget the tool that the line names, because the line was sent."""
        if self._unnamed_tools:
            self._unnamed_tools.popleft()

    def _begin_tool_stage(self, tool: str, query: str) -> None:
        """Begin the use of a tool. The API names a tool first and its input later: one line says both."""
        if self._unnamed_tools and self._unnamed_tools[-1] == self._stage == status_text.tool_text(tool, ""):
            self._unnamed_tools.pop()
        self.begin_stage(status_text.tool_text(tool, query))
        self._unnamed_tools.append(self._stage)

    def begin_stage(self, stage: str) -> None:
        """Begin another stage, whose seconds are counted from now on."""
        if stage != self._stage:
            self._stage, self._stage_started_at = stage, time.monotonic()
