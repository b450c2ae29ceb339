"""Frames to standard output, a JSON-RPC message and a line each.

Senders do not take turns: each writes what the pipe takes, at once, with the frames that were queued before its own.
With a lock that is handed from task to task, one frame could be written in an iteration of the event loop, where
hundreds of answers have thousands a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import sys
from collections import deque
from contextvars import ContextVar
from itertools import chain
from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel
import anyio.to_thread

from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server.large_messages import encode_in_pieces, release_after_sending

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from mcp.shared.message import SessionMessage
    from mcp.types import JSONRPCMessage

    from mcp_server_claude.server.unanswered_requests import UnansweredRequests

MAX_CHUNK_BYTES = 4096
"""What a pipe that `select` calls writable takes without blocking (POSIX: PIPE_BUF)."""
MAX_BYTES_AT_ONCE = 256 * 1024
"""Bytes after which other tasks run, however fast the client reads: some milliseconds."""
MIN_LARGE_FRAME_BYTES = 64 * 1024
"""Bytes from which a frame lets others go first: a client takes some milliseconds for it."""
MAX_OVERTAKING_FRAMES = 1000
"""Frames that go before large ones which wait, until one of these has its turn."""


class StdoutWriter:
    """Messages to a descriptor, a line each (a `WriteStream`). A sender waits while the client does not read.

    Small frames go before large ones: the answer of a short tool does not wait until those of others are read. A sender
    may be cancelled in the middle of a frame: what is left of that frame goes out before the next one.
    `bytes_taken` counts the bytes that were written, of all senders.
    """

    def __init__(self, fd: int, unanswered: UnansweredRequests) -> None:
        self._fd = fd
        self._unanswered = unanswered
        self._queue = _FrameQueue()
        self._is_writing = False
        self.bytes_taken = 0

    async def send(self, item: SessionMessage, /) -> None:
        """Write one message.

        Raises:
            anyio.BrokenResourceError: The client has closed its end.
        """
        try:
            await self._write(_encoded_frame(item.message))
        finally:
            self._unanswered.record_sent(item.message)

    async def wait_until_open(self) -> bool:
        """True: messages can be written from the start."""
        return True

    async def write_message(self, message: bytes) -> None:
        """Write a JSON-RPC message that is one line already.

        Raises:
            anyio.BrokenResourceError: The client has closed its end.
        """
        await self.write_frame(message + b"\n")

    async def write_frame(self, frame: bytes) -> None:
        """Write one frame, after what a cancelled sender left of its own.

        Raises:
            anyio.BrokenResourceError: The client has closed its end.
        """
        await self._write(_whole_frame(frame))

    async def _write(self, frame: _Frame) -> None:
        self._queue.add(frame)
        try:
            while not frame.is_written:
                if self._is_writing:
                    await frame.wait_for_writer()
                else:
                    await self._write_queue(frame)
        finally:
            if not frame.is_written and not frame.has_begun:
                self._queue.drop(frame)  # cancelled before its first byte: never mind
            self._wake_next()
        if frame.is_broken:
            raise anyio.BrokenResourceError
        release_after_sending(frame.bytes_written)

    async def _write_queue(self, own: _Frame) -> None:
        """Write the queued frames as far as the client takes them, and wait for it until the sender's own is written.

        If frames are left, one of their senders goes on.
        """
        self._is_writing = True
        at_once = 0
        try:
            while (frame := self._queue.first()) is not None:  # perhaps another one after each wait
                if not (chunk := frame.next_chunk()):
                    self._queue.drop(frame)
                    frame.end()
                elif (is_writable := self._is_writable()) and at_once < MAX_BYTES_AT_ONCE:
                    size = os.write(self._fd, chunk)
                    self._note_written(frame, size)
                    at_once += size
                elif own.is_written:
                    break
                elif sys.platform == "win32":
                    frame.has_begun = True  # also if its sender is cancelled before the thread has ended
                    self._note_written(frame, await anyio.to_thread.run_sync(os.write, self._fd, chunk))
                else:
                    at_once = 0
                    await (anyio.lowlevel.checkpoint() if is_writable else anyio.wait_writable(self._fd))
        except OSError:
            for frame in self._queue.take_all():
                frame.end(is_broken=True)
        finally:
            self._is_writing = False

    def _wake_next(self) -> None:
        """Let the sender of a queued frame go on with writing, if nobody does."""
        if not self._is_writing:
            any(frame.wake_sender() for frame in self._queue)  # one of them

    def _note_written(self, frame: _Frame, size: int) -> None:
        frame.drop_written(size)
        self.bytes_taken += size

    def _is_writable(self) -> bool:
        """True if a chunk can be written without waiting, which nobody knows on Windows."""
        return sys.platform != "win32" and bool(select.select([], [self._fd], [], 0)[1])

    async def aclose(self) -> None:
        """Nothing more is written; the descriptor is the process's to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.aclose()


class _FrameQueue:
    """The frames that are not written yet: one that has begun, then small ones, then large ones, in their order."""

    def __init__(self) -> None:
        self._small: deque[_Frame] = deque()
        self._large: deque[_Frame] = deque()
        self._first: _Frame | None = None
        self._overtaking = 0

    def __iter__(self) -> Iterator[_Frame]:
        return chain(self._small, self._large)

    def add(self, frame: _Frame) -> None:
        """Add a frame."""
        (self._large if frame.is_large else self._small).append(frame)

    def first(self) -> _Frame | None:
        """The frame that is written next."""
        if self._first is None or not self._first.has_begun:
            small_first = self._small and not (self._large and self._overtaking >= MAX_OVERTAKING_FRAMES)
            frames = self._small if small_first else self._large
            self._first = frames[0] if frames else None
        return self._first

    def drop(self, frame: _Frame) -> None:
        """Remove a frame that is written, or was cancelled before it began."""
        if frame is self._first:
            self._first = None
            self._overtaking = self._overtaking + 1 if self._large and not frame.is_large else 0
        (self._large if frame.is_large else self._small).remove(frame)

    def take_all(self) -> list[_Frame]:
        """Remove all frames."""
        frames = list(self)
        self._small.clear()
        self._large.clear()
        self._first = None
        return frames


class _Frame:
    """A frame of pieces that are not empty, each taken when those before it are written."""

    def __init__(self, pieces: Iterator[bytes], *, is_large: bool) -> None:
        self._pieces = pieces
        self.is_large = is_large
        self._unwritten = memoryview(b"")
        self._sender: asyncio.Future[None] | None = None
        self.bytes_written = 0
        self.has_begun = False
        self.is_written = False
        self.is_broken = False

    def next_chunk(self) -> memoryview:
        """What is written next; empty at the end."""
        if not self._unwritten:
            self._unwritten = memoryview(next(self._pieces, b""))
        return self._unwritten[:MAX_CHUNK_BYTES]

    def drop_written(self, size: int) -> None:
        """Note that so many bytes were written."""
        # An empty slice would hold the whole piece until the next one.
        self._unwritten = self._unwritten[size:] if size < len(self._unwritten) else memoryview(b"")
        self.bytes_written += size
        self.has_begun = True

    def end(self, *, is_broken: bool = False) -> None:
        """Note that the frame is written, or that nobody reads it any more, and wake its sender."""
        self.is_written, self.is_broken = True, is_broken
        self.wake_sender()

    async def wait_for_writer(self) -> None:
        """Wait until the frame is written, or its sender has to write."""
        self._sender = asyncio.get_running_loop().create_future()
        try:
            await self._sender
        finally:
            self._sender = None

    def wake_sender(self) -> bool:
        """Wake the sender; False if none waits."""
        if self._sender is None or self._sender.done():
            return False
        self._sender.set_result(None)
        return True


def _encoded_frame(message: JSONRPCMessage) -> _Frame:
    """The line of a message."""
    try:
        pieces = encode_in_pieces(message)
        if pieces is not None:
            return _Frame(chain(pieces, (b"\n",)), is_large=True)
        frame = message.model_dump_json(by_alias=True, exclude_unset=True).encode()
    except ValueError:  # pydantic: a lone surrogate somewhere; one message of ours must not end the process
        content = message.model_dump(mode="python", by_alias=True, exclude_unset=True)
        frame = replace_lone_surrogates(json.dumps(content, ensure_ascii=False, default=str)).encode()
    return _whole_frame(frame + b"\n")


def _whole_frame(frame: bytes) -> _Frame:
    return _Frame(iter((frame,)), is_large=len(frame) >= MIN_LARGE_FRAME_BYTES)


_current_stdout: ContextVar[StdoutWriter | None] = ContextVar("current_stdout", default=None)


def use_stdout(stdout: StdoutWriter) -> None:
    """Make this the output of the server that runs in the current context."""
    _current_stdout.set(stdout)


def current_stdout() -> StdoutWriter | None:
    """The output of the server that answers the current request over stdio; None over other transports."""
    return _current_stdout.get()
