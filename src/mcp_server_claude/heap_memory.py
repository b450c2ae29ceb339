"""The heap of the C library, which keeps what is freed below what is in use."""

from __future__ import annotations

import os
import sys

M_ARENA_MAX = -8
"""The parameter of `mallopt` (glibc, malloc.h)."""
ARENA_VARIABLE = "MALLOC_ARENA_MAX"


def use_one_arena() -> None:
    """Let all threads allocate in one place, where the C library is glibc and the operator has not decided otherwise.

    Each thread has a place of its own by default, which keeps what was freed at its end, 2 MB after a long answer
    (mallopt(3)). Python's threads seldom allocate at the same time. Call it before threads are started.
    """
    if sys.platform == "linux" and ARENA_VARIABLE not in os.environ:
        set_option = getattr(_c_library(), "mallopt", None)
        if set_option is not None:
            set_option(M_ARENA_MAX, 1)


def trim_heap() -> None:
    """Give free memory back to the system, where the C library is glibc. It takes a millisecond or a few."""
    if sys.platform == "linux":
        trim = getattr(_c_library(), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _c_library() -> object:
    import ctypes  # takes 2 ms

    return ctypes.CDLL(None)
