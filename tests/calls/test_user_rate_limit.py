"""How many calls a user may begin in a minute, and have at once."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from mcp_server_claude.call_types import Call, Limits
from mcp_server_claude.calls.user_rate_limit import UserRateLimiter
from mcp_server_claude.errors import TemporaryError


class Clock:
    """A clock that advances only when it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def call(user: str = "ada", *, minute: int = 0, at_once: int = 0) -> Call:
    return Call(prompt="x", user=user, limits=Limits(calls_per_minute=minute, concurrent=at_once))


def pass_through(limiter: UserRateLimiter, one: Call) -> None:
    with limiter.admit_call(one):
        pass


def test_concurrency_is_limited_and_each_finished_call_frees_a_slot() -> None:
    limiter = UserRateLimiter(Clock())
    with limiter.admit_call(call(at_once=2)):
        with (
            limiter.admit_call(call(at_once=2)),
            pytest.raises(TemporaryError) as raised,
            limiter.admit_call(call(at_once=2)),
        ):
            pass
        assert raised.value.kind == "user_concurrency"
        assert raised.value.retry_after_s is None
        assert str(raised.value) == ("You have 2 calls running, and at most 2 are allowed. Wait, or stop one.")
        pass_through(limiter, call(at_once=2))


def test_a_failed_call_frees_its_slot() -> None:
    limiter = UserRateLimiter(Clock())
    with pytest.raises(ZeroDivisionError), limiter.admit_call(call(at_once=1)):
        raise ZeroDivisionError
    pass_through(limiter, call(at_once=1))


def test_the_rate_per_minute_is_limited_and_the_error_names_the_next_free_time() -> None:
    clock = Clock()
    limiter = UserRateLimiter(clock)
    for _ in range(3):
        pass_through(limiter, call(minute=3))
        clock.now += 10
    with pytest.raises(TemporaryError) as raised:
        pass_through(limiter, call(minute=3))
    assert raised.value.kind == "user_rate_limit"
    assert raised.value.retry_after_s == 30
    assert str(raised.value) == "You may start 3 calls a minute. Try again in 30 s."
    clock.now += 29.5
    with pytest.raises(TemporaryError, match="Try again in 1 s"):
        pass_through(limiter, call(minute=3))
    clock.now += 0.5
    pass_through(limiter, call(minute=3))
    with pytest.raises(TemporaryError, match="Try again in 10 s"):
        pass_through(limiter, call(minute=3))


def test_a_rejected_call_does_not_count() -> None:
    clock = Clock()
    limiter = UserRateLimiter(clock)
    pass_through(limiter, call(minute=1))
    for _ in range(100):
        with pytest.raises(TemporaryError, match="You may start 1 call a minute"):
            pass_through(limiter, call(minute=1))
    clock.now += 60
    pass_through(limiter, call(minute=1))


def test_the_limit_of_one_user_delays_no_other_user() -> None:
    limiter = UserRateLimiter(Clock())
    with limiter.admit_call(call("ada", minute=1, at_once=1)):
        with pytest.raises(TemporaryError):
            pass_through(limiter, call("ada", minute=1, at_once=1))
        pass_through(limiter, call("bob", minute=1, at_once=1))


def test_without_limits_every_call_is_admitted_and_nothing_is_remembered() -> None:
    limiter = UserRateLimiter(Clock())
    with ExitStack() as running:
        for _ in range(1000):
            running.enter_context(limiter.admit_call(call()))
    assert limiter.tracked_users == set()


def test_a_lowered_limit_holds_from_the_next_call_on() -> None:
    clock = Clock()
    limiter = UserRateLimiter(clock)
    for _ in range(10):
        pass_through(limiter, call(minute=10))
        clock.now += 1
    with pytest.raises(TemporaryError, match="Try again in 58 s") as raised:
        pass_through(limiter, call(minute=2))
    assert raised.value.retry_after_s == 58
    with ExitStack() as running:
        for _ in range(2):
            running.enter_context(limiter.admit_call(call("bob", at_once=3)))
        with pytest.raises(TemporaryError, match="You have 2 calls running, and at most 1 are allowed"):
            pass_through(limiter, call("bob", at_once=1))


def test_inactive_users_are_forgotten_and_those_with_running_calls_are_not() -> None:
    clock = Clock()
    limiter = UserRateLimiter(clock)
    with limiter.admit_call(call("long", minute=5, at_once=1)):
        for n in range(500):
            pass_through(limiter, call(f"user-{n}", minute=5))
        assert len(limiter.tracked_users) == 501
        clock.now += 61
        pass_through(limiter, call("ada", minute=5))
        assert limiter.tracked_users == {"long", "ada"}
        with pytest.raises(TemporaryError):
            pass_through(limiter, call("long", minute=5, at_once=1))
    clock.now += 61
    pass_through(limiter, call("ada", minute=5))
    assert limiter.tracked_users == {"ada"}
