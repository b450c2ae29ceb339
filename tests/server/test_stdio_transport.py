from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCResponse

from mcp_server_claude.server.stdio_transport import StdinReader
from mcp_server_claude.server.stdout_writer import StdoutWriter
from mcp_server_claude.server.unanswered_requests import UnansweredRequests
from support.mcp_session import FAKE_KEY, ledger_rows, server_environment
from support.simulator_requests import message_requests
from support.stdio_process import (
    INITIALIZE,
    INITIALIZED,
    Message,
    StdioProcess,
    message_bytes,
    stdio_process,
    tool_call,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

PING: Message = {"jsonrpc": "2.0", "id": "ping", "method": "ping"}
STALLED = "Tell me. [[sim: tokens=400 fault=stall at=90]]"


def answer_of(message: Message) -> str:
    content = cast("list[dict[str, str]]", cast("Message", message["result"])["content"])
    return content[0]["text"]


def progress_texts(stdio: StdioProcess, token: int) -> list[str]:
    """The messages of a call's progress so far."""
    all_params = [
        cast("Message", each["params"]) for each in stdio.received if each.get("method") == "notifications/progress"
    ]
    return [str(each["message"]) for each in all_params if each["progressToken"] == token and each.get("message")]


async def writing(stdio: StdioProcess, token: int) -> None:
    """Read until some of a call's answer has come."""
    while not progress_texts(stdio, token):
        await stdio.read_message()


# --------------------------------------------------------------------- frames


async def test_a_line_that_is_no_message_is_answered_and_the_next_one_is_read(tmp_path: Path) -> None:
    async with stdio_process(tmp_path / "data") as stdio:
        await stdio.initialize()
        deep = b"[" * 100_000
        await stdio.send(b"not json\n", b'{"jsonrpc":"2.0"\n', b"\xff\xfe\n", deep + b"\n", b"\n \n")
        for _ in range(4):
            refused = await stdio.read_response(None)
            assert cast("Message", refused["error"])["code"] == -32700
        await stdio.send(b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]\n', b'{"jsonrpc":"2.0","id":77}\n', b"7\n")
        for identity in (None, 77, None):
            refused = await stdio.read_response(identity)
            assert cast("Message", refused["error"])["code"] == -32600
        await stdio.send(PING)
        assert (await stdio.read_response("ping"))["result"] == {}


@pytest.mark.parametrize(
    "member", [b'"id": null', b'"id": 1.5', b'"id": true', b'"id": [1]', b'"id": 1e400', b'"\\u0069d": null']
)
async def test_a_request_with_an_invalid_id_is_answered_as_invalid(tmp_path: Path, member: bytes) -> None:
    async with stdio_process(tmp_path / "data") as stdio:
        await stdio.initialize()
        await stdio.send(b'{"jsonrpc": "2.0", ' + member + b', "method": "ping"}\n', message_bytes(PING))
        answer = await stdio.read_response(None)
        assert cast("Message", answer["error"])["code"] == -32600
        await stdio.send({"jsonrpc": "2.0", "method": "notifications/unknown", "params": {"id": 1}}, PING)
        await stdio.read_response("ping")
        await stdio.read_response("ping")
    assert [each for each in stdio.received if "error" in each] == [answer]


async def test_a_lone_surrogate_in_a_request_is_answered(upstream: Simulator, tmp_path: Path) -> None:
    async with stdio_process(tmp_path / "data", base_url=upstream.url) as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, "half \ud83d of it"))
        assert answer_of(await stdio.read_response(1))
        await stdio.send(tool_call(2, "x", model="\ud83d"), tool_call(3, "x", **{"\ude00": "\ud83d"}))
        for identity in (2, 3):
            assert cast("Message", (await stdio.read_response(identity))["result"])["isError"] is True
    assert "half \ufffd of it" in str(message_requests(upstream)[0].body)


async def test_a_frame_may_arrive_in_fragments_or_have_five_megabytes(upstream: Simulator, tmp_path: Path) -> None:
    big = "é" * 900_000
    async with stdio_process(tmp_path / "data", base_url=upstream.url) as stdio:
        hello = message_bytes(INITIALIZE)
        await stdio.send(*(hello[n : n + 3] for n in range(0, len(hello), 3)))
        await stdio.read_response("hello")
        await stdio.send(INITIALIZED, tool_call(1, big, model="opus"))
        assert answer_of(await stdio.read_response(1))
        assert len(message_bytes(tool_call(1, big))) > 5_000_000
    assert cast("Message", message_requests(upstream)[0].body)["messages"] == [{"role": "user", "content": big}]


async def test_the_last_line_may_lack_its_line_feed(tmp_path: Path) -> None:
    async with stdio_process(tmp_path / "data") as stdio:
        await stdio.send(message_bytes(INITIALIZE).rstrip())
        stdio.close_stdin()
        assert await stdio.wait_for_exit() == 0
        assert [each["id"] for each in stdio.received] == ["hello"]


async def test_requests_can_be_read_from_a_file(tmp_path: Path) -> None:
    requests = tmp_path / "requests"
    requests.write_bytes(message_bytes(INITIALIZE) + message_bytes(INITIALIZED) + message_bytes(PING))
    with requests.open("rb") as stdin:
        async with stdio_process(tmp_path / "data", stdin=stdin) as stdio:
            assert await stdio.wait_for_exit() == 0
            assert [each["id"] for each in stdio.received] == ["hello", "ping"]


# --------------------------------------------------------------------- several things at once


async def test_while_one_call_streams_others_are_answered(upstream: Simulator, tmp_path: Path) -> None:
    async with stdio_process(tmp_path / "data", base_url=upstream.url) as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, STALLED))
        await writing(stdio, 1)
        await stdio.send(PING, tool_call(2, "", tool="claude_info"), tool_call(3, "short"))
        for identity in ("ping", 2, 3):
            await stdio.read_response(identity)
        assert not any(each.get("id") == 1 for each in stdio.received)


async def test_a_cancellation_closes_the_upstream_and_one_for_an_unknown_call_is_ignored(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with stdio_process(tmp_path / "data", base_url=upstream.url) as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, STALLED))
        await writing(stdio, 1)
        for identity in (99, 1, 1):
            params: Message = {"requestId": identity, "reason": "AbortError: user-cancel"}
            await stdio.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
        await upstream.wait_until_idle()
        assert [record.end for record in message_requests(upstream)] == ["disconnected"]
        await stdio.send(PING)
        await stdio.read_response("ping")


async def test_a_client_that_reads_late_gets_complete_frames_and_the_complete_answer(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with stdio_process(tmp_path / "data", base_url=upstream.url) as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, "Tell me all. [[sim: fault=huge]]"))
        while not message_requests(upstream):
            await upstream.wait_for_requests(len(upstream.requests) + 1)
        await upstream.wait_until_idle()  # nothing has been read yet, although the upstream has sent everything
        assert message_requests(upstream)[0].end == "complete"
        answer = answer_of(await stdio.read_response(1))
        assert answer == message_requests(upstream)[0].text
        assert len(answer) == 5_000_000
        assert answer.startswith("".join(progress_texts(stdio, 1)))


async def test_two_servers_can_start_at_once_with_one_ledger(upstream: Simulator, tmp_path: Path) -> None:
    texts: dict[str, str] = {}

    async def use(name: str) -> None:
        async with stdio_process(tmp_path / "data", name=name, base_url=upstream.url, log_level="warning") as stdio:
            await stdio.initialize()
            await stdio.send(tool_call(1, name))
            assert answer_of(await stdio.read_response(1))
            stdio.close_stdin()
            assert await stdio.wait_for_exit() == 0
        texts[name] = stdio.stderr.read_text()

    async with anyio.create_task_group() as tasks:
        for name in ("one", "two"):
            tasks.start_soon(use, name)
    lines = ledger_rows(tmp_path / "data")
    assert [line["end"] for line in lines] == ["complete", "complete"], f"{lines}\n{texts}"
    assert texts == {"one": "", "two": ""}


# --------------------------------------------------------------------- a client that never reads


def request_line(identity: int, size: int = 0) -> bytes:
    return message_bytes({"jsonrpc": "2.0", "id": identity, "method": "ping", "params": {"x": "x" * size}})


@dataclass
class Pipes:
    """A reader and a writer of the server on pipes, and the client's ends."""

    reader: StdinReader
    writer: StdoutWriter
    client_in: int
    client_out: int

    async def received_id(self) -> object:
        message = await self.reader.receive()
        assert isinstance(message, SessionMessage)
        return getattr(message.message, "id", "cancel")

    async def answer(self, identity: int) -> None:
        await self.writer.send(SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=identity, result={})))


@contextmanager
def pipes(**limits: int) -> Generator[Pipes]:
    server_in, client_out = os.pipe()
    client_in, server_out = os.pipe()
    unanswered = UnansweredRequests(**limits)
    writer = StdoutWriter(server_out, unanswered)
    try:
        yield Pipes(StdinReader(server_in, writer, unanswered), writer, client_in, client_out)
    finally:
        for descriptor in (server_in, client_out, client_in, server_out):
            with suppress(OSError):  # the test has closed some
                os.close(descriptor)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are POSIX's")
@pytest.mark.parametrize(("limits", "size"), [({"max_requests": 3}, 0), ({"max_bytes": 3_000}, 1_000)])
async def test_no_further_request_is_read_while_too_many_are_unanswered(limits: dict[str, int], size: int) -> None:
    cancel: Message = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}
    results: list[object] = []

    async def receive_one() -> None:
        results.append(await stdio.received_id())

    with pipes(**limits) as stdio:
        first, rest = range(4), range(4, 8)
        lines = [*(request_line(n, size) for n in first), message_bytes(cancel), *(request_line(n, size) for n in rest)]
        os.write(stdio.client_out, b"".join(lines))
        assert [await stdio.received_id() for _ in range(3)] == [0, 1, 2]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receive_one)
            await anyio.wait_all_tasks_blocked()  # the next line is in memory already
            await stdio.answer(99)
            await anyio.wait_all_tasks_blocked()
            assert results == []
            await stdio.answer(1)
        assert results == [3]
        await stdio.answer(0)
        assert [await stdio.received_id() for _ in range(3)] == ["cancel", 4, 5]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are POSIX's")
async def test_a_request_whose_answer_is_never_read_still_frees_its_slot() -> None:
    with pipes(max_requests=1) as stdio:
        os.write(stdio.client_out, request_line(0) + request_line(1))
        assert await stdio.received_id() == 0
        os.close(stdio.client_in)
        with pytest.raises(anyio.BrokenResourceError):
            await stdio.answer(0)
        assert await stdio.received_id() == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are POSIX's")
async def test_a_client_that_disconnects_without_reading_ends_the_server() -> None:
    with pipes(max_requests=1) as stdio:
        os.write(stdio.client_out, request_line(0) + request_line(1))
        assert await stdio.received_id() == 0
        os.close(stdio.client_out)
        with anyio.fail_after(60), pytest.raises(anyio.EndOfStream):
            await stdio.received_id()


# --------------------------------------------------------------------- closed descriptors


@pytest.mark.skipif(sys.platform == "win32", reason="closes descriptors as a POSIX shell does")
@pytest.mark.parametrize(
    ("closed", "expected"),
    [
        ("0<&-", "There is no MCP client: standard input or output is closed.\n"),
        ("1>&-", "There is no MCP client: standard input or output is closed.\n"),
        ("0<&- 1>&-", "There is no MCP client: standard input or output is closed.\n"),
        ("0<&- 2>&-", ""),
        ("2>&- </dev/null", ""),
        ("</dev/null", ""),
    ],
)
def test_a_process_without_standard_streams_exits_cleanly(tmp_path: Path, closed: str, expected: str) -> None:
    command = shlex.join([sys.executable, "-m", "mcp_server_claude"])
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {command} {closed}"],
        env=server_environment(data_dir=tmp_path / "data", api_key="sk-ant-test-0000-not-a-key"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, expected)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of open files")
@pytest.mark.parametrize("arguments", ["", "serve --http", "usage"])
def test_a_limit_of_open_files_that_is_too_low_is_one_sentence(tmp_path: Path, arguments: str) -> None:
    command = shlex.join([sys.executable, "-m", "mcp_server_claude", *arguments.split()])
    done = subprocess.run(
        ["/bin/sh", "-c", f"ulimit -n 16; exec {command}"],
        env=server_environment(data_dir=tmp_path / "data", api_key="sk-ant-test-0000-not-a-key"),
        input="",
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )
    sentence = "This process may open only 16 files, and needs at least 24: raise `ulimit -n`.\n"
    assert (done.returncode, done.stdout, done.stderr) == (78, "", sentence)


async def test_with_stderr_closed_calls_are_answered_and_nothing_is_written_into_a_file(
    upstream: Simulator, tmp_path: Path
) -> None:
    """The lowest free descriptor, 2, must not become the database's."""
    command = shlex.join([sys.executable, "-m", "mcp_server_claude"])
    shell = ["-c", "import os; os.execv('/bin/sh', ['/bin/sh', '-c', " + repr(f"exec {command} 2>&-") + "])"]
    async with stdio_process(tmp_path / "data", command=shell, base_url=upstream.url, log_level="debug") as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, "Tell me."))
        assert answer_of(await stdio.read_response(1))
        stdio.close_stdin()
        assert await stdio.wait_for_exit() == 0
    assert [line["end"] for line in ledger_rows(tmp_path / "data")] == ["complete"]


async def test_with_stderr_on_a_full_disk_the_process_ends_with_zero(upstream: Simulator, tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-m", "mcp_server_claude"])
    shell = ["-c", "import os; os.execv('/bin/sh', ['/bin/sh', '-c', " + repr(f"ulimit -f 0; exec {command}") + "])"]
    async with stdio_process(tmp_path / "data", command=shell, base_url=upstream.url, log_level="debug") as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, "Tell me."))
        assert answer_of(await stdio.read_response(1))
        stdio.close_stdin()
        assert await stdio.wait_for_exit() == 0


# --------------------------------------------------------------------- the end


@pytest.mark.parametrize(("how", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("EOF", 0)])
async def test_the_shutdown_is_immediate_cancels_the_upstream_and_closes_the_ledger(
    how: str, code: int, upstream: Simulator, tmp_path: Path
) -> None:
    async with stdio_process(tmp_path / "data", base_url=upstream.url) as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, STALLED))
        await writing(stdio, 1)
        if how == "EOF":
            stdio.close_stdin()
        else:
            stdio.process.send_signal(getattr(signal, how))
        assert await stdio.wait_for_exit() == code
        await upstream.wait_until_idle()
    assert [record.end for record in message_requests(upstream)] == ["disconnected"]
    (line,) = ledger_rows(tmp_path / "data")
    assert (line["state"], line["end"], line["estimated"]) == ("closed", "cancelled", 1)
    assert line["request_id"] == message_requests(upstream)[0].request_id
    assert "Traceback" not in stdio.stderr.read_text()


async def test_the_shutdown_sequence_of_claude_code_ends_the_server(upstream: Simulator, tmp_path: Path) -> None:
    """SIGINT, and SIGTERM while that one is still at work; stdin stays open."""
    async with stdio_process(tmp_path / "data", base_url=upstream.url) as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, STALLED))
        await writing(stdio, 1)
        stdio.process.send_signal(signal.SIGINT)
        stdio.process.send_signal(signal.SIGTERM)
        assert await stdio.wait_for_exit() in {130, 143}
    assert [line["end"] for line in ledger_rows(tmp_path / "data")] == ["cancelled"]


async def test_a_client_that_closes_only_its_reading_end_does_not_crash_the_server(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with stdio_process(tmp_path / "data", base_url=upstream.url) as stdio:
        await stdio.initialize()
        stdio.process.stdout.close()  # type: ignore[union-attr] - it is a pipe
        await stdio.send(tool_call(1, "Tell me."))
        stdio.close_stdin()
        await anyio.to_thread.run_sync(stdio.process.wait)
    assert "Traceback" not in stdio.stderr.read_text()


# --------------------------------------------------------------------- the beginning

GATED = """
import os, sys
class Gate:
    def find_spec(self, name, path=None, target=None):
        if name in ("anthropic", "genai_prices"):
            os.read({gate}, 1)  # until the test closes its end of this pipe
sys.meta_path.insert(0, Gate())
from mcp_server_claude.__main__ import main
main()
"""


async def test_the_handshake_is_answered_before_anything_heavy_is_imported(upstream: Simulator, tmp_path: Path) -> None:
    gate, opener = os.pipe()
    command = ["-c", GATED.format(gate=gate)]
    with os.fdopen(opener, "wb") as opener_end, os.fdopen(gate, "rb"):
        async with stdio_process(tmp_path / "data", command=command, pass_fds=[gate], base_url=upstream.url) as stdio:
            await stdio.initialize()
            await stdio.send({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, tool_call(2, "x"), PING)
            await stdio.read_response(1)
            await stdio.read_response("ping")
            assert not any(each.get("id") == 2 for each in stdio.received)
            opener_end.close()
            assert answer_of(await stdio.read_response(2))


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (None, 0)])
async def test_a_server_that_is_still_importing_ends_without_waiting_for_it(
    tmp_path: Path, how: signal.Signals | None, code: int
) -> None:
    gate, opener = os.pipe()
    command = ["-c", GATED.format(gate=gate)]
    with os.fdopen(opener, "wb"), os.fdopen(gate, "rb"):  # nothing ever comes through: the import takes for ever
        async with stdio_process(tmp_path / "data", command=command, pass_fds=[gate]) as stdio:
            await stdio.initialize()
            await stdio.send(tool_call(1, "x"), PING)
            await stdio.read_response("ping")
            if how is None:
                stdio.close_stdin()
            else:
                stdio.process.send_signal(how)
            assert await stdio.wait_for_exit() == code


def test_building_the_server_imports_no_module_of_calls_or_commands() -> None:
    program = (
        "import sys; from mcp_server_claude.server.mcp_server import build_mcp_server; "
        "from mcp_server_claude.services.lazy_services import Services; "
        "from mcp_server_claude.settings import Settings; "
        "build_mcp_server(Settings.load(), Services.lifespan); "
        "names = ('files', 'anthropic_api', 'engine', 'store', 'calls.running_calls', 'services.open_services'); "
        "modules = {'mcp_server_claude.' + name for name in names}; "
        "print(*({'anthropic', 'genai_prices', 'typer', 'fastapi'} | modules) & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=server_environment()
    )
    assert done.stdout.split() == []


async def test_a_server_that_has_answered_has_imported_nothing_that_is_only_for_http_terminals_metrics_or_mistakes(
    upstream: Simulator, tmp_path: Path
) -> None:
    values = {"api_key": FAKE_KEY, "data_dir": tmp_path / "data", "base_url": upstream.url}
    environment = server_environment(**values) | {"PYTHONPROFILEIMPORTTIME": "1"}
    async with stdio_process(tmp_path / "data", real=True, environment=environment) as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, "Hello."))
        answer = cast("dict[str, dict[str, object]]", await stdio.read_response(1))
        assert not answer["result"].get("isError")
        stdio.close_stdin()
        assert await stdio.wait_for_exit() == 0
        lines = stdio.stderr.read_text().splitlines()
    imported = {line.rsplit("|", 1)[1].strip() for line in lines if line.startswith("import time:")}
    assert {"mcp.server.mcpserver", "anthropic", "aiohttp", "sqlite3", "genai_prices"} <= imported
    # Modules inside the packages, since an import that fails is listed too.
    http_only = {"uvicorn.config", "python_multipart.decoders", "fastapi.routing"}
    needless = http_only | {"click.core", "rich.text", "difflib", "typer.main", "opentelemetry.metrics"}
    assert imported & needless == set()
