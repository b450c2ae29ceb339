"""The collector of reference cycles: imports are left out of it, and full collections are rare."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import gc
from mcp_server_claude.garbage_collection import COLLECTIONS_PER_FULL, YOUNG_OBJECTS, freeze_imports

_, middle, full = gc.get_threshold()
objects = len(gc.get_objects())
freeze_imports()
assert gc.get_threshold()[:2] == (YOUNG_OBJECTS, middle)
assert gc.get_threshold()[2] in {COLLECTIONS_PER_FULL, full}  # newer versions of Python have no third threshold
print(gc.get_freeze_count() >= objects)
cycle = []
cycle.append(cycle)
del cycle
print(gc.collect())
"""


def test_imports_are_left_out_of_collections_and_garbage_is_not() -> None:
    output = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True).stdout
    assert output.split() == ["True", "1"]
