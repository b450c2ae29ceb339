"""The delay before a retry, or the decision not to retry. Pure: no clock, no randomness, no sleep."""

from __future__ import annotations

from mcp_server_claude.frozen_dataclass import frozen_dataclass

NEVER_RETRIED_KINDS = frozenset({"billing", "spend_limit"})
"""Kinds that are not retried even if `x-should-retry` is `true`, as it is on a 429 for the spend limit."""


@frozen_dataclass(kw_only=True)
class RetryPolicy:
    """The limits of retrying one call.

    Args:
        deadline_s: Seconds that the whole call may take.
        retry_for_s: Seconds that a row of failures may last.
        max_retries: Retries in a row.
        initial_backoff_s: Upper bound of the first delay, in seconds; it doubles with each failure.
        max_backoff_s: Upper bound of all delays, in seconds.
        max_overloads: Overloads in a row before the call gives up, e.g. to use a fallback model; None for no limit.
        max_overload_wait_s: Longest delay after an overload, in seconds, where `max_overloads` is set.
    """

    deadline_s: float = 3600.0
    retry_for_s: float = 300.0
    max_retries: int = 8
    initial_backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    max_overloads: int | None = None
    max_overload_wait_s: float = 10.0


@frozen_dataclass(kw_only=True)
class FailureState:
    """The latest failure of a call and those before it.

    Args:
        kind: The error's kind.
        retryable: The error's class allows a retry.
        failures: Failures in a row, the latest included.
        failing_for_s: Seconds since the first failure of the row.
        elapsed_s: Seconds since the call began.
        retry_after_s: Seconds that the API asked to wait; None if it did not.
        should_retry: The API's advice; None if it gave none.
    """

    kind: str
    retryable: bool
    failures: int
    failing_for_s: float
    elapsed_s: float
    retry_after_s: float | None = None
    should_retry: bool | None = None


def backoff_delay(policy: RetryPolicy, state: FailureState, jitter: float) -> float | None:
    """Seconds to wait before the next attempt; None if there must be none, or if it could not start in time.

    Full jitter: `jitter` in [0, 1) picks a point between 0 and the backoff's step (AWS Architecture Blog, "Exponential
    Backoff and Jitter"). A `retry_after_s` of the API is never shortened. It is lengthened by up to a tenth, so that
    callers who got the same answer do not return at the same moment.
    """
    allowed = state.retryable if state.should_retry is None else state.should_retry
    if state.kind in NEVER_RETRIED_KINDS or not allowed or state.failures > policy.max_retries:
        return None
    step = min(policy.max_backoff_s, policy.initial_backoff_s * 2 ** min(state.failures - 1, 32))
    after_s = state.retry_after_s
    delay_s = jitter * step if after_s is None else after_s + jitter * min(step, 0.1 * after_s + 0.1)
    max_overloads = policy.max_overloads if state.kind == "overloaded" else None
    if max_overloads is not None and (state.failures >= max_overloads or delay_s > policy.max_overload_wait_s):
        return None
    remaining_s = min(policy.deadline_s - state.elapsed_s, policy.retry_for_s - state.failing_for_s)
    return delay_s if delay_s <= remaining_s else None
