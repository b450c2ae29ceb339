"""The errors of a call that are not those of the API: what the machine lacks."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from mcp_server_claude.errors import TemporaryError, local_resource_error
from mcp_server_claude.simulator import directive
from support.stdio_process import stdio_process, tool_call

if TYPE_CHECKING:
    from mcp_server_claude.simulator import Simulator
    from support.stdio_process import Message


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "ran out of memory"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "ran out of memory"),
        (RuntimeError("can't start new thread"), "cannot start another thread"),
        (OSError(errno.EMFILE, "x"), "as many files and connections open"),
        (OSError(errno.ENFILE, "x"), "as many files open"),
        (OSError(errno.ENOSPC, "x"), "disk to which mcp-server-claude writes is full"),
        (ExceptionGroup("a task group", [ValueError(), ExceptionGroup("inside", [MemoryError()])]), "out of memory"),
    ],
)
def test_what_the_machine_lacks_is_a_temporary_error_in_words(error: Exception, sentence: str) -> None:
    failure = local_resource_error(error)
    assert isinstance(failure, TemporaryError)
    assert (failure.kind, sentence in str(failure)) == ("local_resources", True)


@pytest.mark.parametrize(
    "error", [None, RuntimeError("x"), OSError(errno.ENOENT, "x"), OSError("x"), ExceptionGroup("x", [ValueError()])]
)
def test_any_other_exception_is_a_bug(error: Exception | None) -> None:
    assert local_resource_error(error) is None


def result_of(response: Message) -> dict[str, Any]:
    return cast("dict[str, Any]", response["result"])


def virtual_memory_bytes(pid: int) -> int:
    found = re.search(r"VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")
async def test_a_call_for_which_memory_ran_out_is_a_temporary_error_and_others_go_on(
    upstream: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "large.txt").write_text("tea " * 900_000, encoding="utf-8")
    async with stdio_process(tmp_path / "data", real=True, base_url=upstream.url, roots=tmp_path) as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, "Tea?"))
        assert not result_of(await stdio.read_response(1)).get("isError")
        pid = stdio.process.pid
        resource: Any = pytest.importorskip("resource")
        limit = virtual_memory_bytes(pid) + 6_000_000
        _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, hard))
        await stdio.send(tool_call(2, "What is in it?", files=[str(tmp_path / "large.txt")]))
        refused = result_of(await stdio.read_response(2))
        resource.prlimit(pid, resource.RLIMIT_AS, (hard, hard))
        await stdio.send(tool_call(3, f"Coffee? {directive(tokens=20)}"))
        assert not result_of(await stdio.read_response(3)).get("isError")
        log = stdio.stderr.read_text(encoding="utf-8")
    meta = cast("dict[str, Any]", refused["_meta"])["mcp-server-claude/failure"]
    assert (meta["class"], meta["kind"]) == ("temporary_error", "local_resources")
    assert "Traceback" not in log
