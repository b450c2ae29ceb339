"""Memory of large results: it is released soon after they were sent, not at some later collection."""

from __future__ import annotations

import asyncio
import gc

MIN_LARGE_MESSAGE_BYTES = 1024 * 1024
COLLECT_DELAY_S = 0.05
"""Seconds in which the tasks of a request end after its result was written."""


def release_after_sending(message_bytes: int) -> None:
    """Collect garbage soon, if a message of this size was large.

    A finished request leaves reference cycles with its result, 30 MB for an answer of 8 MB (benchmarks/, row "an answer
    of 8 MB"), and an idle server allocates too little for Python to look for them. It takes a few milliseconds.
    """
    if message_bytes >= MIN_LARGE_MESSAGE_BYTES:
        asyncio.get_running_loop().call_later(COLLECT_DELAY_S, gc.collect)
