from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mcp_server_claude.engine import retry_policy

seconds = st.floats(0, 10_000)
chances = st.floats(0, 1, exclude_max=True)
policies = st.builds(
    retry_policy.RetryPolicy,
    deadline_s=st.floats(0.001, 10_000),
    retry_for_s=seconds,
    max_retries=st.integers(0, 100),
    initial_backoff_s=st.floats(0.001, 10),
    max_backoff_s=st.floats(0.001, 600),
)
troubles = st.builds(
    retry_policy.FailureState,
    kind=st.sampled_from(
        [
            "overloaded",
            "rate_limit",
            "connection",
            "stream_timeout",
            "invalid_request",
            *sorted(retry_policy.NEVER_RETRIED_KINDS),
        ]
    ),
    retryable=st.booleans(),
    failures=st.integers(1, 200),
    failing_for_s=seconds,
    elapsed_s=seconds,
    retry_after_s=st.none() | seconds,
    should_retry=st.none() | st.booleans(),
)
HEALTHY = retry_policy.FailureState(kind="overloaded", retryable=True, failures=1, failing_for_s=0, elapsed_s=0)


def step(policy: retry_policy.RetryPolicy, failures: int) -> float:
    return min(policy.max_backoff_s, policy.initial_backoff_s * 2.0 ** min(failures - 1, 32))


@settings(deadline=None)
@given(policies, troubles, chances)
@example(retry_policy.RetryPolicy(), replace(HEALTHY, elapsed_s=3600.0), 0.0)
@example(retry_policy.RetryPolicy(retry_for_s=0), HEALTHY, 0.5)
def test_a_wait_never_ends_past_the_deadline_nor_past_the_time_allowed_for_failing(
    policy: retry_policy.RetryPolicy, state: retry_policy.FailureState, chance: float
) -> None:
    pause = retry_policy.backoff_delay(policy, state, chance)
    if pause is not None:
        assert pause >= 0
        assert pause <= policy.deadline_s - state.elapsed_s
        assert pause <= policy.retry_for_s - state.failing_for_s


@settings(deadline=None)
@given(policies, troubles, chances, seconds)
@example(retry_policy.RetryPolicy(), HEALTHY, 0.0, 0.0)
def test_a_wait_ends_neither_before_the_time_of_the_api_nor_long_after(
    policy: retry_policy.RetryPolicy, state: retry_policy.FailureState, chance: float, retry_after_s: float
) -> None:
    pause = retry_policy.backoff_delay(policy, replace(state, retry_after_s=retry_after_s), chance)
    if pause is not None:
        assert retry_after_s <= pause <= retry_after_s * 1.1 + 0.1


@settings(deadline=None)
@given(policies, troubles, chances, st.floats(0.01, 1000), st.floats(-1000, 1000), st.floats(1.001, 1000))
def test_a_wait_that_cannot_end_in_time_fails_at_once_instead_of_being_cut_short(
    policy: retry_policy.RetryPolicy,
    state: retry_policy.FailureState,
    chance: float,
    left: float,
    slack: float,
    beyond: float,
) -> None:
    policy = replace(
        policy,
        deadline_s=state.elapsed_s + left + max(slack, 0),
        retry_for_s=state.failing_for_s + left + max(-slack, 0),
    )
    left = min(policy.deadline_s - state.elapsed_s, policy.retry_for_s - state.failing_for_s)
    assert retry_policy.backoff_delay(policy, replace(state, retry_after_s=left * beyond), chance) is None


@settings(deadline=None)
@given(policies, troubles, chances, st.sampled_from(sorted(retry_policy.NEVER_RETRIED_KINDS)))
def test_permanent_errors_are_never_retried_whatever_the_api_advises(
    policy: retry_policy.RetryPolicy, state: retry_policy.FailureState, chance: float, kind: str
) -> None:
    assert (
        retry_policy.backoff_delay(policy, replace(state, kind=kind, retryable=True, should_retry=True), chance) is None
    )


@settings(deadline=None)
@given(troubles, chances)
def test_the_advice_of_the_api_outranks_the_retry_policy_both_ways(
    state: retry_policy.FailureState, chance: float
) -> None:
    patient = retry_policy.RetryPolicy(deadline_s=1e9, retry_for_s=1e9, max_retries=1000)
    assume(state.kind not in retry_policy.NEVER_RETRIED_KINDS)
    for ours in (True, False):
        advised = replace(state, retryable=ours)
        assert retry_policy.backoff_delay(patient, replace(advised, should_retry=True), chance) is not None
        assert retry_policy.backoff_delay(patient, replace(advised, should_retry=False), chance) is None
        assert (retry_policy.backoff_delay(patient, replace(advised, should_retry=None), chance) is not None) is ours


@settings(deadline=None)
@given(policies, troubles, chances)
@example(
    retry_policy.RetryPolicy(deadline_s=1e9, retry_for_s=1e9, max_retries=10**6),
    replace(HEALTHY, failures=10**6),
    0.999,
)
def test_a_wait_without_advice_is_no_longer_than_the_step_of_the_backoff(
    policy: retry_policy.RetryPolicy, state: retry_policy.FailureState, chance: float
) -> None:
    pause = retry_policy.backoff_delay(policy, replace(state, retry_after_s=None), chance)
    if pause is not None:
        assert pause <= step(policy, state.failures) <= policy.max_backoff_s


@settings(deadline=None)
@given(st.integers(1, 40), chances)
def test_the_backoff_doubles_and_the_jitter_covers_its_whole_range(failures: int, chance: float) -> None:
    patient = retry_policy.RetryPolicy(deadline_s=1e9, retry_for_s=1e9, max_retries=1000)
    state = replace(HEALTHY, failures=failures)
    assert retry_policy.backoff_delay(patient, state, 0.0) == 0.0
    assert retry_policy.backoff_delay(patient, state, chance) == chance * step(patient, failures)
    assert step(patient, failures) == min(60.0, 2.0 ** (failures - 1))


@settings(deadline=None)
@given(policies, troubles, chances, st.integers(1, 1000))
def test_more_consecutive_failures_than_allowed_end_the_call(
    policy: retry_policy.RetryPolicy, state: retry_policy.FailureState, chance: float, more: int
) -> None:
    assert (
        retry_policy.backoff_delay(
            policy, replace(state, failures=policy.max_retries + more, should_retry=True), chance
        )
        is None
    )


def test_an_overload_is_retried_eight_times_by_default() -> None:
    assert retry_policy.backoff_delay(retry_policy.RetryPolicy(), replace(HEALTHY, failures=8), 0.5) == 30.0
    assert retry_policy.backoff_delay(retry_policy.RetryPolicy(), replace(HEALTHY, failures=9), 0.5) is None
