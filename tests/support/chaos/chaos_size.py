"""The size of a chaos run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChaosSize:
    """How much chaos: `scripts/chaos` asks for more than `scripts/test` does."""

    calls: int
    kills: int
    seed: int
