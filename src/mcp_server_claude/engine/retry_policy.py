"""When to try again, and after how long. Pure policy: no clock, no dice, no sleeping of its own."""

from __future__ import annotations

from dataclasses import dataclass

NEVER_RETRIED_KINDS = frozenset({"billing", "spend_limit"})
"""Kinds that no waiting mends, whatever `x-should-retry` says (spend-limit 429s carry `true`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient a call is, in seconds: in all, while nothing works, and the backoff's first and longest step.

    `max_overloads` is how many overloads in a row it bears, and `max_overload_wait_s` how long it waits after one,
    where there is
    another model to ask.
    """

    deadline_s: float = 3600.0
    retry_for_s: float = 300.0
    max_retries: int = 8
    initial_backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    max_overloads: int | None = None
    max_overload_wait_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureState:
    """One failure among those of a call.

    `failures` counts those in a row, this one included; `failing_for_s` is the time since the first of them and
    `elapsed_s` the time since the call began. `retry_after_s` and `should_retry` are what the API said, if it did.
    """

    kind: str
    retryable: bool
    failures: int
    failing_for_s: float
    elapsed_s: float
    retry_after_s: float | None = None
    should_retry: bool | None = None


def backoff_delay(policy: RetryPolicy, state: FailureState, jitter: float) -> float | None:
    """Seconds to wait before trying again; None when it is no use, or could not happen in time.

    Full jitter: `chance` in [0, 1) picks a point between nothing and the backoff's step (AWS Architecture Blog,
    "Exponential Backoff and Jitter"). What the API asks for is never cut short: with a `retry_after_s` the wait is
    that and a little more, so that callers who were told the same do not come back at once.
    """
    allowed = state.retryable if state.should_retry is None else state.should_retry
    if state.kind in NEVER_RETRIED_KINDS or not allowed or state.failures > policy.max_retries:
        return None
    step = min(policy.max_backoff_s, policy.initial_backoff_s * 2 ** min(state.failures - 1, 32))
    asked = state.retry_after_s
    pause = jitter * step if asked is None else asked + jitter * min(step, 0.1 * asked + 0.1)
    most = policy.max_overloads if state.kind == "overloaded" else None
    if most is not None and (state.failures >= most or pause > policy.max_overload_wait_s):
        return None
    left = min(policy.deadline_s - state.elapsed_s, policy.retry_for_s - state.failing_for_s)
    return pause if pause <= left else None
