"""The share of the work that a quick run of the tests leaves to `scripts/test --all`."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

THOROUGH = os.environ.get("TEST_THOROUGH") == "1"
"""Set by `scripts/test --all`."""
QUICK_SHARE = 4
MIN_EXAMPLES = 5
QUICK_JITTER = 0.1


class ShortJitter:
    """The jitter of retries in a quick run: only the lowest tenth of its range, which a test may meet by chance too."""

    @staticmethod
    def random() -> float:
        """Return a random number in [0, QUICK_JITTER)."""
        return QUICK_JITTER * random.random()


def examples(count: int) -> int:
    """The number of examples of a property: `count` with `scripts/test --all`, else a quarter."""
    return count if THOROUGH else max(MIN_EXAMPLES, count // QUICK_SHARE)


def slow_beyond(quick: int, values: Sequence[Any]) -> list[Any]:
    """Parameters of a test, of which all but the first `quick` are marked `slow`."""
    rest = [cast("tuple[Any, ...]", value if isinstance(value, tuple) else (value,)) for value in values[quick:]]
    return [*values[:quick], *(pytest.param(*value, marks=pytest.mark.slow) for value in rest)]
