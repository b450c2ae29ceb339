"""The server as a client's operating system sees it: a process with three pipes, a line of JSON for each message."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, cast

import anyio
import anyio.to_thread

from support.mcp_session import FAKE_KEY, server_environment
from support.server_command import server_command
from support.server_database import database_fields

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path

Message = dict[str, object]
INITIALIZE: Message = {
    "jsonrpc": "2.0",
    "id": "hello",
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "wire", "version": "1"},
    },
}
INITIALIZED: Message = {"jsonrpc": "2.0", "method": "notifications/initialized"}
EXCHANGE_TIMEOUT_S = 300.0
"""Seconds after which a test with a process counts as hanging, on the busiest machine."""


def tool_call(identity: int, prompt: str, tool: str = "claude_ask", **arguments: object) -> Message:
    """A tool call that requests progress."""
    meta: Message = {"progressToken": identity}
    prompt_argument: Message = {"prompt": prompt} if tool == "claude_ask" else {}
    params: Message = {"name": tool, "arguments": prompt_argument | arguments, "_meta": meta}
    return {"jsonrpc": "2.0", "id": identity, "method": "tools/call", "params": params}


def message_bytes(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"


@dataclass
class StdioProcess:
    """Our end of the pipes. Whatever is read is kept in `received`; every line has to be JSON."""

    process: subprocess.Popen[bytes]
    stderr: Path
    received: list[Message] = field(default_factory=list[Message])
    _unread: list[Message] = field(default_factory=list[Message])

    async def send(self, *messages: Message | bytes) -> None:
        def write() -> None:
            stdin = cast("IO[bytes]", self.process.stdin)
            for message in messages:
                stdin.write(message_bytes(message))
                stdin.flush()

        await anyio.to_thread.run_sync(write)

    async def read_message(self) -> Message:
        """The next message.

        Raises:
            EOFError: The server has closed its end.
        """
        line = await anyio.to_thread.run_sync(cast("IO[bytes]", self.process.stdout).readline, abandon_on_cancel=True)
        if not line:
            raise EOFError
        assert line.endswith(b"\n")
        self.received.append(cast("Message", json.loads(line)))
        return self.received[-1]

    async def read_response(self, identity: int | str | None) -> Message:
        """The answer to a request, each answer once, in whatever order they come."""
        while not (found := [each for each in self._unread if each["id"] == identity]):
            message = await self.read_message()
            if "id" in message and "method" not in message:
                self._unread.append(message)
        self._unread.remove(found[0])
        return found[0]

    async def initialize(self) -> None:
        await self.send(INITIALIZE)
        await self.read_response("hello")
        await self.send(INITIALIZED)

    def close_stdin(self) -> None:
        cast("IO[bytes]", self.process.stdin).close()

    async def wait_for_exit(self) -> int:
        """Read to the end of what the server says; its exit code."""
        try:
            while True:
                await self.read_message()
        except EOFError:
            return await anyio.to_thread.run_sync(self.process.wait)


@asynccontextmanager
async def stdio_process(
    data_dir: Path,
    *,
    command: Sequence[str] = (),
    real: bool = False,
    stdin: IO[bytes] | int = subprocess.PIPE,
    pass_fds: Sequence[int] = (),
    name: str = "server",
    environment: Mapping[str, str] | None = None,
    **fields: object,
) -> AsyncGenerator[StdioProcess]:
    """The server with our pipes at its ends; killed if it has not ended by itself."""
    stderr = data_dir.parent / f"{name}.stderr"
    fields = {"api_key": FAKE_KEY, "data_dir": data_dir} | database_fields(data_dir) | fields
    with stderr.open("wb") as errors:
        process = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond, and anyio's pipes cannot be files
            [sys.executable, *command] if command else server_command(real=real),
            pass_fds=pass_fds,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=server_environment(**fields) if environment is None else environment,
        )
    stdio = StdioProcess(process, stderr)
    try:
        with anyio.fail_after(EXCHANGE_TIMEOUT_S):
            yield stdio
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was still to be written is no matter
                    pipe.close()
