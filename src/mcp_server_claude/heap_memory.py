"""The heap of the C library, which keeps what is freed below what is in use."""

from __future__ import annotations

import os
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""The parameters of `mallopt` (glibc, malloc.h)."""
ARENA_VARIABLE = "MALLOC_ARENA_MAX"
THRESHOLD_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
TUNABLES_VARIABLE = "GLIBC_TUNABLES"
"""The newer way to set the same: `glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=…` (ld.so(8))."""
LARGE_BLOCK_BYTES = 1024 * 1024
"""Bytes from which a block is mapped by itself. Those of reads and frames are smaller, and would cost page faults."""


def use_one_arena() -> None:
    """Let all threads allocate in one place, where the C library is glibc and the operator has not decided otherwise.

    Each thread has a place of its own by default, which keeps what was freed at its end, 2 MB after a long answer
    (mallopt(3)). Python's threads seldom allocate at the same time. Call it before threads are started.
    """
    if sys.platform == "linux" and not _is_set((ARENA_VARIABLE,), ("arena_max",)):
        set_option = getattr(_c_library(), "mallopt", None)
        if set_option is not None:
            set_option(M_ARENA_MAX, 1)


def map_large_blocks() -> None:
    """Let large blocks be returned to the system when they are freed, where the C library is glibc and the operator has
    not decided otherwise.

    By default the first one of 8 MB that is freed lets all later ones up to 8 MB be part of the heap (mallopt(3),
    `M_MMAP_THRESHOLD`). There a growing text is copied when it cannot grow in place, and leaves holes: the second long
    answer of a process took 2.5 times its text, the first one 1.4.
    """
    if sys.platform == "linux" and not _is_set(THRESHOLD_VARIABLES, ("mmap_threshold", "trim_threshold")):
        set_option = getattr(_c_library(), "mallopt", None)
        if set_option is not None:
            set_option(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
            set_option(M_TRIM_THRESHOLD, LARGE_BLOCK_BYTES)


def trim_heap() -> None:
    """Give free memory back to the system, where the C library is glibc. It takes a millisecond or a few."""
    if sys.platform == "linux":
        trim = getattr(_c_library(), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _is_set(variables: tuple[str, ...], tunables: tuple[str, ...]) -> bool:
    """True if the environment sets one of the parameters, by a variable of its own or as a tunable of glibc."""
    set_tunables = {each.partition("=")[0] for each in os.environ.get(TUNABLES_VARIABLE, "").split(":")}
    return any(name in os.environ for name in variables) or any(
        f"glibc.malloc.{name}" in set_tunables for name in tunables
    )


@cache
def _c_library() -> object:
    """The C library, which is opened once: each opening parses the names of what is loaded again."""
    import ctypes  # takes 2 ms

    return ctypes.CDLL(None)
