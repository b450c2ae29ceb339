from __future__ import annotations

import os

import pytest

from support.chaos.chaos_size import ChaosSize


@pytest.fixture(scope="session")
def size() -> ChaosSize:
    return ChaosSize(
        calls=int(os.environ.get("CHAOS_CALLS", "150")),
        kills=int(os.environ.get("CHAOS_KILLS", "8")),
        seed=int(os.environ.get("CHAOS_SEED", "20261120")),
    )
