"""The heap of the C library."""

from __future__ import annotations

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
