"""The server with other people's simulators and gateways as its Messages API."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from mcp_server_claude.exit_codes import EXIT_INCOMPLETE
from support.interop.run_program import run_program
from support.interop.servers import process_with_url, server_settings
from support.server_command import REAL_COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

MODEL = "claude-sonnet-5-5"
ANSWER = "A mocked answer, line one.\n\nLine two."
ASK_TIMEOUT_S = 300
GATEWAY_TIMEOUT_S = 300
LLAMA_TIMEOUT_S = 600
INPUT_COUNTS = ("input_tokens", "cache_read_input_tokens")
PROGRAMS = Path(__file__).with_name("programs")
MASTER_KEY = "sk-test-0000-gateway"


def ask(upstream: str, data_dir: Path, **changes: str) -> str:
    """The answer that the shell prints when the server asks this upstream."""
    command = [*REAL_COMMAND, "ask", "Hello", "--model", MODEL]
    return run_program(command, server_settings(data_dir, upstream) | changes, ASK_TIMEOUT_S)


@contextmanager
def gateway_process(command: list[str], environment: dict[str, str], health: str, log: Path) -> Generator[None]:
    """A process that listens when a GET of `health` succeeds."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=log.parent)
    try:
        deadline = time.monotonic() + GATEWAY_TIMEOUT_S
        while True:
            try:
                with urllib.request.urlopen(health):  # noqa: S310 - a loopback URL
                    break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def aimock_url(install: Callable[..., Path], node: str, tmp_path: Path) -> Iterator[str]:
    """aimock with one answer."""
    command = install("aimock") / "node_modules" / ".bin" / "llmock"
    fixtures = tmp_path / "fixtures.json"
    fixture = {"match": {"userMessage": "Hello"}, "response": {"content": ANSWER}}
    fixtures.write_text(json.dumps({"fixtures": [fixture]}), encoding="utf-8")
    arguments = [node, str(command), "--port", "0", "--fixtures", str(fixtures)]
    environment = server_settings(tmp_path / "unused", "")
    with process_with_url(arguments, environment, tmp_path / "aimock.log", r"listening on (\S+)") as url:
        yield url


def test_aimock_answers_as_upstream(aimock_url: str, tmp_path: Path) -> None:
    assert ask(aimock_url, tmp_path / "data").startswith(ANSWER)


def test_litellm_forwards_the_request(aimock_url: str, install: Callable[..., Path], tmp_path: Path) -> None:
    litellm = install("litellm", "python").with_name("litellm")
    parameters = {"model": f"anthropic/{MODEL}", "api_base": aimock_url, "api_key": "sk-ant-test-0000-not-a-key"}
    config = {
        "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
        "general_settings": {"master_key": MASTER_KEY},
    }
    path = tmp_path / "litellm.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [str(litellm), "--config", str(path), "--host", "127.0.0.1", "--port", port]
    environment = server_settings(tmp_path / "unused", "") | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    health = f"http://127.0.0.1:{port}/health/liveliness"
    with gateway_process(command, environment, health, tmp_path / "litellm.log"):
        answer = ask(f"http://127.0.0.1:{port}", tmp_path / "data", MCP_CLAUDE_API_KEY=MASTER_KEY)
    assert answer.startswith(ANSWER)


@pytest.fixture
def llama_url(install: Callable[..., Path], tmp_path: Path) -> Iterator[str]:
    """llama.cpp with a model of 135 million parameters."""
    command = [str(install("llama-cpp", "python")), str(PROGRAMS / "llama_server.py")]
    with process_with_url(command, server_settings(tmp_path / "unused", ""), tmp_path / "llama.log") as url:
        yield url


def test_llama_cpp_answers_with_the_model_that_it_has_loaded_and_continues_a_thread(
    llama_url: str, tmp_path: Path
) -> None:
    def ask_for_json(*arguments: str) -> dict[str, Any]:
        command = [*REAL_COMMAND, "ask", "--max-tokens", "20", "--json", *arguments]
        environment = server_settings(tmp_path / "data", llama_url)
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LLAMA_TIMEOUT_S,
            check=False,
        )
        assert done.returncode in {0, EXIT_INCOMPLETE}, done.stderr.decode()  # so small a model seldom comes to an end
        return cast("dict[str, Any]", json.loads(done.stdout))

    first = ask_for_json("Name a colour.")
    assert first["text"].strip()
    assert first["usage"]["model"].endswith(".gguf")
    assert first["usage"]["output_tokens"] > 0
    assert first["usage"]["cost_usd"] is None  # no price list knows it
    second = ask_for_json("And another.", "--thread", first["usage"]["thread"])
    assert second["usage"]["thread"] == first["usage"]["thread"]
    inputs = [sum(each["usage"][kind] for kind in INPUT_COUNTS) for each in (first, second)]
    assert inputs[1] > inputs[0]  # with what was said before
