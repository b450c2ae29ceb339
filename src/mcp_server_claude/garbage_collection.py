"""How Python's collector of reference cycles runs in a server."""

from __future__ import annotations

import gc

COLLECTIONS_PER_FULL = 100
"""Collections of the middle generation between two full ones; Python's own number is 10.

A full collection stops every stream, for 200 ms with 600 answers on their way. A call leaves 15 KB in cycles; those of
a long answer are collected when it was sent (`server.large_messages`).
"""


def freeze_imports() -> None:
    """Leave the objects of now out of all collections, and make full ones rare.

    The SDK alone is half a million objects that never die. A full collection of them takes a fifth of a second.
    """
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, COLLECTIONS_PER_FULL)
    gc.freeze()
