"""A full disk stops the ledger, with a warning, and never an answer; unless a budget hangs on them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

import pytest

from mcp_server_claude.simulator import Pace, Simulator, directive
from support.chaos import stored_calls
from support.chaos.call_plans import call_marker
from support.stdio_process import Message, StdioProcess, stdio_process, tool_call

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="limits a disk as Linux does"),
]

ROOM = 4_000_000
WARNING = "The ledger could not be used: its disk"


class Disk(Protocol):
    """A directory whose file system can be full."""

    path: Path

    def fill(self, process: subprocess.Popen[bytes]) -> None: ...

    def empty(self, process: subprocess.Popen[bytes]) -> None: ...


class SmallDisk:
    """A file system of its own in memory, filled with a file; needs the right to mount one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, process: subprocess.Popen[bytes]) -> None:
        del process
        with (self.path / "ballast").open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(b"\0" * 4096)
            except OSError:
                pass

    def empty(self, process: subprocess.Popen[bytes]) -> None:
        del process
        (self.path / "ballast").unlink()


class ShortFiles:
    """A limit on how long a file of the server's may grow: for those who may not mount anything."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, process: subprocess.Popen[bytes]) -> None:
        self._limit(process, 0)

    def empty(self, process: subprocess.Popen[bytes]) -> None:
        import resource

        self._limit(process, resource.RLIM_INFINITY)

    def _limit(self, process: subprocess.Popen[bytes], size: int) -> None:
        import resource

        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@contextmanager
def mounted(path: Path) -> Generator[bool]:
    """A small file system at a path, where this user may mount one."""
    path.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(path)]
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        done = False
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", "-l", str(path)], check=True)  # noqa: S607 - wherever it is


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    kind = cast("type[SmallDisk | ShortFiles]", request.param)
    if kind is ShortFiles:
        yield ShortFiles(tmp_path)
        return
    with mounted(tmp_path / "disk") as done:
        if not done:
            pytest.skip("this user may not mount a file system; the other kind of limit stands in for it")
        yield SmallDisk(tmp_path / "disk")


async def ask(stdio: StdioProcess, *numbers: int, **keys: Any) -> dict[int, tuple[bool, list[str]]]:
    """Calls at once: of each whether it failed, and its blocks."""
    await stdio.send(*(tool_call(each, f"{call_marker(each)} {directive(**keys)}", model="sonnet") for each in numbers))
    found: dict[int, tuple[bool, list[str]]] = {}
    for number in numbers:
        result = cast("Message", (await stdio.read_response(number))["result"])
        blocks = cast("list[dict[str, str]]", result["content"])
        found[number] = bool(result.get("isError")), [block["text"] for block in blocks]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("disk", [SmallDisk, ShortFiles], indirect=True)
async def test_on_a_full_disk_answers_are_complete_with_a_warning_and_the_server_stays_up(disk: Disk) -> None:
    data_dir = disk.path / "data"
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api,
        stdio_process(data_dir, real=True, base_url=api.url) as stdio,
    ):
        await stdio.initialize()
        failed, (_, footer) = (await ask(stdio, 1))[1]
        assert not failed
        assert WARNING not in footer
        disk.fill(stdio.process)
        await ask(stdio, 2, 3)
        for number, (failed, blocks) in (await ask(stdio, *range(4, 12), tokens=2_000, fault="drop", times=1)).items():
            first, _ = stored_calls.requests_by_call(api.requests)[number]
            assert not failed
            text, footer = blocks  # a third one would begin with INCOMPLETE
            assert text == api.answer_to(cast("stored_calls.Row", first.body))
            assert WARNING in footer
        disk.empty(stdio.process)
        await ask(stdio, 12)
        failed, (_, footer) = (await ask(stdio, 13))[13]
        assert not failed
        assert WARNING not in footer
        stdio.close_stdin()
        assert await stdio.wait_for_exit() == 0
        requests, ledger = stored_calls.requests_by_call(api.requests), stored_calls.ledger_by_call(data_dir)
        assert requests.keys() == ledger.keys() == set(range(1, 14))
        for number, records in requests.items():  # also what could not be written at its time
            assert len(records) == len(ledger[number])
            assert not stored_calls.ledger_mismatches(ledger[number], records)
        for number, call in stored_calls.journal_by_call(data_dir).items():
            assert (call["end"], call["gapless"]) == ("complete", True)
            assert call["text"] == api.answer_to(cast("stored_calls.Row", requests[number][0].body))
        log = stdio.stderr.read_text()
        assert log.count("is kept in memory until it can be written") == 1
        assert log.count("has what was kept in memory") == 1
        assert "Traceback" not in log


@pytest.mark.parametrize("disk", [ShortFiles], indirect=True)
async def test_on_a_full_disk_calls_are_rejected_where_a_budget_is_set(disk: Disk) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api,
        stdio_process(disk.path / "data", real=True, base_url=api.url, budget_usd_per_day=10) as stdio,
    ):
        await stdio.initialize()
        assert not (await ask(stdio, 1))[1][0]
        disk.fill(stdio.process)
        await ask(stdio, 2, 3)  # what room the file still had inside is used up
        for number, (failed, blocks) in (await ask(stdio, *range(4, 12), tokens=2_000)).items():
            assert failed
            assert "A budget is set, and the ledger could not be written" in blocks[0]
            assert number not in stored_calls.requests_by_call(api.requests)
        disk.empty(stdio.process)
        assert not (await ask(stdio, 12))[12][0]
        stdio.close_stdin()
        assert await stdio.wait_for_exit() == 0
