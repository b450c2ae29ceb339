from __future__ import annotations

import os
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class ChaosSize:
    """How much chaos: `scripts/chaos` asks for more than `scripts/test` does."""

    calls: int
    kills: int
    seed: int


@pytest.fixture(scope="session")
def size() -> ChaosSize:
    return ChaosSize(
        calls=int(os.environ.get("CHAOS_CALLS", "300")),
        kills=int(os.environ.get("CHAOS_KILLS", "8")),
        seed=int(os.environ.get("CHAOS_SEED", "20261120")),
    )
