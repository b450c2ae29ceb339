"""The heap of the C library."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

SCRIPT = """
from pathlib import Path
from mcp_server_claude.heap_memory import trim_heap

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

trim_heap()
blocks = [b"x" * 10_000 for _ in range(4_000)]
last = b"x" * 10_000  # above them in the heap, so that nothing is given back by itself
del blocks
before = resident_bytes()
trim_heap()
print(before - resident_bytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's heap is trimmed")
def test_memory_that_was_freed_below_what_is_in_use_goes_back_to_the_system() -> None:
    output = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True).stdout
    assert int(output) > 30_000_000


def test_trimming_does_nothing_where_the_c_library_has_no_such_function(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_server_claude.heap_memory import trim_heap

    monkeypatch.setattr(sys, "platform", "win32")
    trim_heap()


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's heap is trimmed")
def test_the_c_library_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_server_claude import heap_memory

    opened = list[object]()
    open_library = ctypes.CDLL

    def count(name: None) -> ctypes.CDLL:
        opened.append(name)
        return open_library(name)

    monkeypatch.setattr(ctypes, "CDLL", count)
    heap_memory.trim_heap()
    heap_memory.trim_heap()
    assert len(opened) <= 1  # another test may have opened it


ARENAS_SCRIPT = """
import ctypes, os, sys
from threading import Thread
from mcp_server_claude.heap_memory import use_one_arena

if sys.argv[1] == "one":
    use_one_arena()
blocks = []

def allocate():
    blocks.append([b"x" * 2_000 for _ in range(100)])

threads = [Thread(target=allocate) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.malloc_stats()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has arenas")
@pytest.mark.parametrize(
    ("argument", "variables", "is_single"),
    [
        ("one", {}, True),
        ("many", {}, False),
        ("one", {"MALLOC_ARENA_MAX": "4"}, False),
        ("one", {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7:glibc.malloc.arena_max=4"}, False),
        ("one", {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}, True),
    ],
)
def test_threads_allocate_in_one_arena_unless_the_operator_says_otherwise(
    argument: str, variables: dict[str, str], *, is_single: bool
) -> None:
    command = [sys.executable, "-c", ARENAS_SCRIPT, argument]
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"} | variables
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    arenas = [line for line in done.stderr.splitlines() if line.startswith("Arena ")]
    assert (len(arenas) == 1) is is_single


LARGE_BLOCKS_SCRIPT = """
import sys
from pathlib import Path
from mcp_server_claude.heap_memory import map_large_blocks

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "mapped":
    map_large_blocks()
first = b"x" * 8_000_000
del first  # with the defaults, this lets the later ones be part of the heap
later = b"x" * 4_000_000
above = [b"x" * 10_000 for _ in range(100)]
before = resident_bytes()
del later
print(before - resident_bytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc maps large blocks by a threshold")
@pytest.mark.parametrize(
    ("argument", "variables", "is_returned"),
    [
        ("mapped", {}, True),
        ("default", {}, False),
        ("mapped", {"MALLOC_MMAP_THRESHOLD_": "32000000"}, False),
        ("mapped", {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=32000000"}, False),
    ],
)
def test_every_large_block_is_returned_when_it_is_freed_unless_the_operator_says_otherwise(
    argument: str, variables: dict[str, str], *, is_returned: bool
) -> None:
    command = [sys.executable, "-c", LARGE_BLOCKS_SCRIPT, argument]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | variables
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert (int(output) > 3_500_000) is is_returned
