"""`mcp-server-claude serve`, by its real command: where it listens, for whom, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, cast

import anyio
import anyio.to_thread
import httpx2
import pytest

from support.mcp_session import FAKE_KEY, ledger_rows, server_environment
from support.raw_mcp_http import (
    PROTOCOL_VERSIONS,
    jsonrpc_messages,
    jsonrpc_result,
    raw_connection,
    raw_mcp_client,
    result_text,
)
from support.server_command import server_command
from support.simulator_requests import message_requests
from support.stdio_process import stdio_process, tool_call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator
    from support.raw_mcp_http import ProtocolVersion, RawMcpClient

pytestmark = pytest.mark.anyio

STALLED = "Tell me. [[sim: tokens=400 fault=stall at=90]]"
SLOW = "Tell me. [[sim: tokens=60 think=0 pace=60]]"


@dataclass(frozen=True)
class Process:
    """The server: where it listens, what it printed, how it ended."""

    url: str
    printed_lines: list[str]
    process: subprocess.Popen[bytes]
    stderr: Path

    async def wait_for_exit(self) -> int:
        return await anyio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)


def start_server(
    arguments: list[str],
    data_dir: Path,
    errors: IO[bytes],
    extra: Mapping[str, str] = MappingProxyType({}),
    **fields: object,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        server_command("serve", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=server_environment(**({"api_key": FAKE_KEY, "data_dir": data_dir, "log_level": "warning"} | fields))
        | dict(extra),
    )


@asynccontextmanager
async def serving(
    tmp_path: Path,
    upstream: Simulator,
    *arguments: str,
    extra: Mapping[str, str] = MappingProxyType({}),
    **fields: object,
) -> AsyncGenerator[Process]:
    """The server over HTTP in a process of its own; killed if it has not ended by itself."""
    stderr = tmp_path / "serve.stderr"
    with stderr.open("wb") as errors:
        given = ["--http", "--port", "0", *arguments]
        process = start_server(given, tmp_path / "data", errors, extra, base_url=upstream.url, **fields)
    out = cast("IO[bytes]", process.stdout)
    try:
        with anyio.fail_after(60):
            lines = [(await anyio.to_thread.run_sync(out.readline)).decode() for _ in range(2)]
            found = re.search(r"http://\S+", lines[0])
            assert found, stderr.read_text()
            yield Process(found[0], lines, process, stderr)
    finally:
        process.kill()
        process.wait()
        out.close()


async def start_error(arguments: list[str], tmp_path: Path, **fields: object) -> str:
    """What a server that does not even start says."""
    stderr = tmp_path / "refused.stderr"
    with stderr.open("wb") as errors:
        process = start_server(["--http", *arguments], tmp_path / "data", errors, {}, **fields)
    with anyio.fail_after(60):
        out, _ = await anyio.to_thread.run_sync(process.communicate)
    assert process.returncode == 78
    assert out == b""
    return " ".join(stderr.read_text().split())


# --------------------------------------------------------------------- where it listens, and for whom


async def test_the_server_prints_its_address_and_how_claude_code_connects(upstream: Simulator, tmp_path: Path) -> None:
    async with serving(tmp_path, upstream) as server:
        assert server.printed_lines == [
            f"mcp-server-claude listens on {server.url}  (Ctrl-C ends it)\n",
            f"Claude Code: claude mcp add --transport http claude {server.url}/mcp\n",
        ]
        assert server.url.startswith("http://127.0.0.1:")
        async with raw_mcp_client(server.url, "2025-11-25") as client:
            assert (
                result_text(await client.call_tool("claude_ask", prompt="What is tea?"))
                == message_requests(upstream)[0].text
            )
        server.process.send_signal(signal.SIGTERM)
        assert await server.wait_for_exit() == 0
    assert server.stderr.read_text() == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("HTTPS_PROXY", "gopher://127.0.0.1:1"),
        ("SSL_CERT_FILE", "{missing}/ca.pem"),
        ("SSLKEYLOGFILE", "{missing}/keys.log"),
    ],
)
async def test_the_server_starts_and_names_an_unusable_variable_of_the_network(
    upstream: Simulator, tmp_path: Path, name: str, value: str
) -> None:
    async with serving(tmp_path, upstream, extra={name: value.format(missing=tmp_path / "missing")}) as server:
        async with httpx2.AsyncClient(base_url=server.url, timeout=None, trust_env=False, verify=False) as client:
            assert (await client.get("/healthz")).status_code == 200
            answer = await client.post("/chat", json={"message": "Tea?"}, headers={"accept": "text/plain"})
        assert name in answer.text
        server.process.send_signal(signal.SIGTERM)
        assert await server.wait_for_exit() == 0
    assert "Traceback" not in server.stderr.read_text()


async def test_without_users_the_server_listens_on_this_machine_only_unless_configured_otherwise(
    upstream: Simulator, tmp_path: Path
) -> None:
    data = await start_error(["--host", "0.0.0.0", "--port", "0"], tmp_path)  # noqa: S104
    assert "There are no users" in data
    assert "mcp-server-claude user add NAME" in data
    assert "--insecure" in data
    async with serving(tmp_path, upstream, "--host", "0.0.0.0", "--insecure") as server:  # noqa: S104
        assert (await anyio.to_thread.run_sync(httpx2.get, f"{server.url}/healthz")).status_code == 200


async def test_with_users_the_server_listens_everywhere_and_reports_that_a_token_is_needed(
    upstream: Simulator, tmp_path: Path
) -> None:
    add = server_command("user", "add", "ann")
    env = server_environment(data_dir=tmp_path / "data")
    done = await anyio.run_process(add, env=env)
    token = next(word for word in done.stdout.decode().split() if word.startswith("mcpc_"))
    async with serving(tmp_path, upstream, "--host", "0.0.0.0") as server:  # noqa: S104
        assert '--header "Authorization: Bearer ' in server.printed_lines[1]
        async with raw_mcp_client(server.url, "2025-11-25", token) as client:
            assert result_text(await client.call_tool("claude_ask", prompt="What is tea?"))
            client.token = ""
            assert (await client.post("tools/list")).status_code == 401


async def test_a_port_in_use_is_reported_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        data = await start_error(["--port", str(port)], tmp_path)
    reason = f"Cannot listen on 127.0.0.1 port {port}: Address already in use."
    assert data == f"{reason} Choose another one with --port."


@pytest.mark.parametrize("fields", [{}, {"oidc_issuer": "https://login.example", "public_url": "https://c.example"}])
async def test_a_ledger_that_cannot_be_opened_is_reported_in_one_sentence_and_prevents_the_start(
    tmp_path: Path, fields: dict[str, object]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store.db").write_bytes(b"what a newer version, or nobody, can read")
    data = await start_error(["--port", "0"], tmp_path, **fields)
    assert "The list of users cannot be read." in data
    assert "Traceback" not in data


async def test_an_invalid_host_is_reported_in_one_sentence(tmp_path: Path) -> None:
    data = await start_error(["--host", "no.such.host.invalid"], tmp_path)
    assert data.startswith("Cannot listen on no.such.host.invalid: ")


async def test_without_http_the_server_speaks_stdio(upstream: Simulator, tmp_path: Path) -> None:
    command = ["-m", "mcp_server_claude", "serve"]
    async with stdio_process(tmp_path / "data", command=command, base_url=upstream.url) as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, "What is tea?"))
        assert "result" in await stdio.read_response(1)
        stdio.close_stdin()
        assert await stdio.wait_for_exit() == 0


async def test_only_trusted_proxies_are_believed(upstream: Simulator, tmp_path: Path) -> None:
    """Who comes through a proxy is not of this machine; a server without users refuses them."""
    forwarded = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
    async with (
        serving(tmp_path, upstream, trusted_proxies="127.0.0.1") as server,
        raw_mcp_client(server.url, "2026-07-28") as client,
    ):
        assert (await client.post("tools/list")).status_code == 200
        headers = client.headers("tools/list") | forwarded
        body = json.dumps(client.message("tools/list", {})).encode()
        assert (await client.http.post(f"{server.url}/mcp", headers=headers, content=body)).status_code == 401


# --------------------------------------------------------------------- how it ends


@pytest.mark.parametrize(("era", "how"), [("2025-11-25", signal.SIGTERM), ("2026-07-28", signal.SIGINT)])
async def test_a_call_in_flight_finishes_before_the_shutdown(
    era: ProtocolVersion, how: signal.Signals, upstream: Simulator, tmp_path: Path
) -> None:
    async with serving(tmp_path, upstream) as server, raw_mcp_client(server.url, era) as client:
        async with raw_connection(server.url) as connection:
            await connection.send_request(*client.ask_request(SLOW))
            await connection.read_until(b'"message":')
            server.process.send_signal(how)
            received = await connection.read_to_end()
        assert await server.wait_for_exit() == 0
    *_, last = [each for each in received.decode().split("data: ") if each.startswith("{")]
    assert result_text(json.loads(last.splitlines()[0])["result"]) == message_requests(upstream)[0].text
    assert received.endswith(b"0\r\n\r\n")
    assert [entry["end"] for entry in ledger_rows(tmp_path / "data")] == ["complete"]
    assert server.stderr.read_text() == ""


async def test_idle_streams_of_clients_do_not_delay_the_shutdown(upstream: Simulator, tmp_path: Path) -> None:
    async with (
        serving(tmp_path, upstream) as server,
        raw_mcp_client(server.url, "2025-11-25") as old,
        raw_mcp_client(server.url, "2026-07-28") as new,
    ):
        listen = {"notifications": {"toolsListChanged": True}}
        headers = new.headers("subscriptions/listen")
        body = json.dumps(new.message("subscriptions/listen", listen)).encode()
        async with (
            old.http.stream("GET", f"{server.url}/mcp", headers=old.headers("")) as waiting,
            new.http.stream("POST", f"{server.url}/mcp", headers=headers, content=body) as listening,
        ):
            assert waiting.status_code == listening.status_code == 200
            lines = listening.aiter_lines()
            assert "acknowledged" in [each async for each in head_of(lines)][-1]
            server.process.send_signal(signal.SIGTERM)
            output = [each async for each in lines if each.startswith("data:")]
            assert "result" in json.loads(output[-1].removeprefix("data:"))
            assert b"".join([each async for each in waiting.aiter_bytes()]).count(b"data:") == 0
        assert await server.wait_for_exit() == 0
    assert server.stderr.read_text() == ""


async def head_of(lines: AsyncIterator[str]) -> AsyncGenerator[str]:
    """The lines of one event."""
    async for each in lines:
        if not each:
            return
        yield each


@pytest.mark.parametrize("era", PROTOCOL_VERSIONS)
async def test_a_second_signal_ends_the_server_at_once_and_closes_the_ledger(
    era: ProtocolVersion, upstream: Simulator, tmp_path: Path
) -> None:
    async with serving(tmp_path, upstream) as server, raw_mcp_client(server.url, era) as client:
        async with raw_connection(server.url) as connection:
            await connection.send_request(*client.ask_request(STALLED))
            await connection.read_until(b'"message":')
            server.process.send_signal(signal.SIGTERM)
            await wait_until_closed(server.url)
            server.process.send_signal(signal.SIGTERM)
            await connection.read_to_end()
        assert await server.wait_for_exit() == 128 + signal.SIGTERM
        await upstream.wait_until_idle()
    assert [record.end for record in message_requests(upstream)] == ["disconnected"]
    (entry,) = ledger_rows(tmp_path / "data")
    assert (entry["state"], entry["end"]) == ("closed", "cancelled")
    assert "Traceback" not in server.stderr.read_text()


async def wait_until_closed(url: str) -> None:
    """Wait until nothing listens there any more: the server has begun to end."""
    async with httpx2.AsyncClient() as client:
        while True:
            try:
                await client.get(f"{url}/healthz")
            except httpx2.TransportError:
                return
            await anyio.sleep(0.01)


@pytest.mark.parametrize("era", PROTOCOL_VERSIONS)
async def test_a_call_that_outlasts_the_drain_time_is_cut_and_recorded(
    era: ProtocolVersion, upstream: Simulator, tmp_path: Path
) -> None:
    async with serving(tmp_path, upstream, drain_s=0.1) as server, raw_mcp_client(server.url, era) as client:
        async with raw_connection(server.url) as connection:
            await connection.send_request(*client.ask_request(STALLED))
            await connection.read_until(b'"message":')
            server.process.send_signal(signal.SIGTERM)
            await connection.read_to_end()
        assert await server.wait_for_exit() == 128 + signal.SIGTERM
    (entry,) = ledger_rows(tmp_path / "data")
    assert (entry["state"], entry["end"]) == ("closed", "cancelled")
    assert "Traceback" not in server.stderr.read_text()


async def test_a_reader_of_chat_gets_the_end_of_the_answer_or_the_notice_of_the_shutdown(
    upstream: Simulator, tmp_path: Path
) -> None:
    for prompt, drain_s, code, last in (
        (SLOW, 60, 0, '"complete": true'),
        (STALLED, 0.1, 128 + signal.SIGTERM, '"complete": false'),
    ):
        async with serving(tmp_path, upstream, drain_s=drain_s) as server, httpx2.AsyncClient(timeout=60) as http:
            async with http.stream("POST", f"{server.url}/chat", json={"message": prompt}) as response:
                lines = response.aiter_lines()
                async for each in lines:
                    if each.startswith("data: Y"):
                        break
                server.process.send_signal(signal.SIGTERM)
                *_, done, data = [each async for each in lines if each]
            assert done == "event: done"
            assert last in data
            assert await server.wait_for_exit() == code


async def test_concurrent_calls_of_several_sessions_all_finish(upstream: Simulator, tmp_path: Path) -> None:
    async with serving(tmp_path, upstream) as server:
        answers: list[str] = []

        async def ask(client: RawMcpClient, n: int) -> None:
            headers, body = client.ask_request(f"Tell me {n}. [[sim: tokens=60 think=0 pace=60]]", identity=n)
            response = await client.http.post(f"{server.url}/mcp", headers=headers, content=body)
            assert jsonrpc_messages(response)
            answers.append(result_text(jsonrpc_result(response)))

        async with (
            raw_mcp_client(server.url, "2025-11-25") as one,
            raw_mcp_client(server.url, "2025-11-25") as two,
            raw_mcp_client(server.url, "2026-07-28") as three,
            anyio.create_task_group() as tasks,
        ):
            for client in (one, two, three):
                for n in range(1, 4):
                    tasks.start_soon(ask, client, n)
            await upstream.wait_for_requests(10)  # the list of models, and nine messages
            server.process.send_signal(signal.SIGTERM)
        assert await server.wait_for_exit() == 0
    assert sorted(answers) == sorted(record.text for record in message_requests(upstream))
    assert {record.end for record in message_requests(upstream)} == {"complete"}
