"""Clients that other people's generators make from the OpenAPI document."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = Path(__file__).with_name("programs")
GENERATOR_TIMEOUT_S = 300


def run_generator(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=GENERATOR_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def document(http_url: str, tmp_path: Path) -> Path:
    """The OpenAPI document of the server, as a file."""
    path = tmp_path / "openapi.json"
    with urllib.request.urlopen(f"{http_url}/openapi.json") as response:  # noqa: S310 - a loopback URL
        path.write_bytes(response.read())
    return path


def test_a_generated_python_client_asks_and_reads_usage(
    install: Callable[..., Path], document: Path, http_url: str, tmp_path: Path
) -> None:
    python = install("openapi-python-client", "python")
    output = ("--output-path", tmp_path / "generated", "--meta", "none")
    printed = run_generator(python.with_name("openapi-python-client"), "generate", "--path", document, *output)
    assert "Unable to parse" not in printed
    program = shutil.copy(PROGRAMS / "openapi_client.py", tmp_path)  # the generated package is looked up beside it
    report: dict[str, Any] = json.loads(run_generator(python, program, http_url).splitlines()[-1])
    assert report["status"] == 200
    assert "event: done" in report["answer"]
    assert any(name.startswith("claude-sonnet") for name in report["models"])
    assert report["usage"]["totals"]["requests"] >= 1


def test_generated_typescript_types_compile_with_a_program(
    install: Callable[..., Path], node: str, document: Path, tmp_path: Path
) -> None:
    tools = install("openapi-typescript") / "node_modules" / ".bin"
    # By default a field with a default counts as present, which is true of responses only.
    form = ("--default-non-nullable=false", "-o", tmp_path / "schema.d.ts")
    run_generator(node, tools / "openapi-typescript", document, *form)
    program = shutil.copy(PROGRAMS / "openapi_client.ts", tmp_path)
    run_generator(node, tools / "tsc", "--noEmit", "--strict", "--lib", "es2022,dom", program)
