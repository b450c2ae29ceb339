"""How Python's collector of reference cycles runs in a server."""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 4_000
"""Objects that are made between two collections of the young ones; Python's own number is 700 (2,000 from 3.13 on).

Most objects of a call live as long as it does, so that to look at them often is in vain: with 700 it took a twentieth
of what it costs to begin one.
"""
COLLECTIONS_PER_FULL = 20
"""Collections of the middle generation between two full ones; Python's own number is 10.

A full collection stops every stream, for 200 ms with 600 answers on their way. A call leaves 15 KB in cycles; those of
a long answer are collected when it was sent (`server.large_messages`).
"""


def freeze_imports() -> None:
    """Leave the objects of now out of all collections, and make full ones rare.

    What is imported is 200,000 objects that never die. A full collection of them takes a tenth of a second.
    """
    _, middle, _ = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, middle, COLLECTIONS_PER_FULL)
    gc.freeze()
