"""When to try again, and after how long. Pure policy: no clock, no dice, no sleeping of its own."""

from __future__ import annotations

from dataclasses import dataclass

NEVER = frozenset({"billing", "spend_limit"})
"""Kinds that no waiting mends, whatever `x-should-retry` says (spend-limit 429s carry `true`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How patient a call is, in seconds: in all, while nothing works, and the backoff's first and longest step.

    `overloads` is how many overloads in a row it bears, and `overload_s` how long it waits after one, where there is
    another model to ask.
    """

    deadline_s: float = 3600.0
    retry_for_s: float = 300.0
    most: int = 8
    first_s: float = 1.0
    longest_s: float = 60.0
    overloads: int | None = None
    overload_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One failure among those of a call.

    `failures` counts those in a row, this one included; `failing_s` is the time since the first of them and
    `elapsed_s` the time since the call began. `retry_after_s` and `should_retry` are what the API said, if it did.
    """

    kind: str
    retryable: bool
    failures: int
    failing_s: float
    elapsed_s: float
    retry_after_s: float | None = None
    should_retry: bool | None = None


def wait(policy: Policy, trouble: Trouble, chance: float) -> float | None:
    """Seconds to wait before trying again; None when it is no use, or could not happen in time.

    Full jitter: `chance` in [0, 1) picks a point between nothing and the backoff's step (AWS Architecture Blog,
    "Exponential Backoff and Jitter"). What the API asks for is never cut short: with a `retry_after_s` the wait is
    that and a little more, so that callers who were told the same do not come back at once.
    """
    allowed = trouble.retryable if trouble.should_retry is None else trouble.should_retry
    if trouble.kind in NEVER or not allowed or trouble.failures > policy.most:
        return None
    step = min(policy.longest_s, policy.first_s * 2 ** min(trouble.failures - 1, 32))
    asked = trouble.retry_after_s
    pause = chance * step if asked is None else asked + chance * min(step, 0.1 * asked + 0.1)
    most = policy.overloads if trouble.kind == "overloaded" else None
    if most is not None and (trouble.failures >= most or pause > policy.overload_s):
        return None
    left = min(policy.deadline_s - trouble.elapsed_s, policy.retry_for_s - trouble.failing_s)
    return pause if pause <= left else None
