"""The heap of the C library, which keeps what is freed below what is in use."""

from __future__ import annotations

import sys


def trim_heap() -> None:
    """Give free memory back to the system, where the C library is glibc. It takes a millisecond or a few."""
    if sys.platform == "linux":
        import ctypes  # only where there is something to release

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
