"""The decision after each stream: bounded, without side effects, and never a repetition of text that was seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, islice

from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude.call_types import COMPLETE_STOP_REASONS
from mcp_server_claude.engine import next_step, retry_policy
from mcp_server_claude.engine.next_step import Continue, Finish, LoopPolicy, LoopProgress, ResumePause, Retry, RunTools
from mcp_server_claude.errors import ConfigurationError, RequestError, TemporaryError

kinds = st.sampled_from(["overloaded", "rate_limit", "stream_timeout", "connection", "deadline", "billing", "protocol"])
advice = st.none() | st.booleans()
delays = st.none() | st.floats(0, 100)
errors = (
    st.builds(RequestError, st.just("No."), kind=kinds, should_retry=advice, retry_after_s=delays)
    | st.builds(TemporaryError, st.just("No."), kind=kinds, should_retry=advice, retry_after_s=delays)
    | st.builds(ConfigurationError, st.just("No."), kind=kinds, should_retry=advice, retry_after_s=delays)
)
stop_reasons = st.sampled_from(["end_turn", "max_tokens", "refusal", "pause_turn", "tool_use", "stop_sequence", "new"])
broken_ends = st.builds(
    next_step.StreamEnd,
    error=st.none() | errors,
    elapsed_s=st.floats(0, 3600),
    has_text=st.booleans(),
    text_grew=st.booleans(),
    has_only_text=st.booleans(),
    has_thinking=st.booleans(),
    in_open_turn=st.booleans(),
).map(lambda end: replace(end, has_text=end.has_text or end.text_grew))
stopped_ends = st.builds(next_step.StreamEnd, stop_reason=stop_reasons, has_text=st.booleans())
counts = st.integers(0, 50)
progresses = st.builds(
    LoopProgress,
    failures=counts,
    failing_since_s=st.floats(0, 1000),
    pause_turns=counts,
    tool_rounds=counts,
    continuations=counts,
    thinking_timeouts=counts,
)
policies = st.builds(
    LoopPolicy,
    retry=st.builds(retry_policy.RetryPolicy, max_retries=st.integers(0, 10)),
    has_file_tools=st.booleans(),
    has_schema=st.booleans(),
)
jitters = st.floats(0, 1, exclude_max=True)


@given(st.lists(broken_ends | stopped_ends, min_size=1, max_size=12), policies, jitters)
def test_every_sequence_of_stream_ends_leads_to_a_finish(
    ends: list[next_step.StreamEnd], policy: LoopPolicy, jitter: float
) -> None:
    turns = next_step.MAX_TOOL_ROUNDS + next_step.MAX_PAUSE_TURNS + next_step.MAX_CONTINUATIONS + 1
    progress = LoopProgress()
    for ended in islice(cycle(ends), turns * (policy.retry.max_retries + 1)):
        step = next_step.decide(progress, ended, policy, jitter)
        if isinstance(step, Finish):
            return
        progress = step.progress
    raise AssertionError(progress)


@given(progresses, broken_ends, policies, jitters)
def test_a_request_is_repeated_only_while_no_text_of_its_turn_would_be_written_twice(
    progress: LoopProgress, ended: next_step.StreamEnd, policy: LoopPolicy, jitter: float
) -> None:
    match next_step.decide(progress, ended, policy, jitter):
        case Continue():
            assert ended.has_text
            assert ended.has_only_text
            assert not ended.in_open_turn
            assert not policy.has_schema
        case Retry():
            assert policy.has_schema or ended.in_open_turn or not ended.has_text
            assert not (ended.in_open_turn and ended.text_grew)
        case Finish(error=error):
            assert error is not None
        case step:
            raise AssertionError(step)


@given(progresses, broken_ends, policies, jitters)
def test_the_error_that_ends_the_call_is_the_one_received(
    progress: LoopProgress, ended: next_step.StreamEnd, policy: LoopPolicy, jitter: float
) -> None:
    step = next_step.decide(progress, ended, policy, jitter)
    assert isinstance(step, Finish | Retry | Continue)
    assert step.error is not None
    assert step.error is ended.error or (ended.error is None and step.error.kind == "truncated")


@given(progresses, stop_reasons, policies, jitters)
def test_a_stop_reason_ends_the_call_unless_the_turn_is_open(
    progress: LoopProgress, stop_reason: str, policy: LoopPolicy, jitter: float
) -> None:
    step = next_step.decide(progress, next_step.StreamEnd(stop_reason=stop_reason), policy, jitter)
    match step:
        case ResumePause():
            assert stop_reason == "pause_turn"
            assert progress.pause_turns < next_step.MAX_PAUSE_TURNS
            assert step.progress == replace(progress, failures=0, pause_turns=progress.pause_turns + 1)
        case RunTools():
            assert stop_reason == "tool_use"
            assert policy.has_file_tools
            assert step.progress == replace(progress, failures=0, tool_rounds=progress.tool_rounds + 1)
        case _:
            assert step == Finish()
            assert stop_reason not in COMPLETE_STOP_REASONS or step == Finish()


@given(broken_ends, jitters)
def test_a_second_stream_that_times_out_while_thinking_is_the_last(ended: next_step.StreamEnd, jitter: float) -> None:
    silent = TemporaryError("Nothing came.", kind="stream_timeout")
    ended = replace(ended, error=silent, elapsed_s=1.0, has_thinking=True, has_text=False, text_grew=False)
    first = next_step.decide(LoopProgress(), ended, LoopPolicy(), jitter)
    assert isinstance(first, Retry)
    assert next_step.decide(first.progress, ended, LoopPolicy(), jitter) == Finish(error=silent)


@given(progresses, jitters)
def test_a_stream_with_text_resets_the_count_of_failures(progress: LoopProgress, jitter: float) -> None:
    progress = replace(progress, continuations=0)
    broken = next_step.StreamEnd(elapsed_s=1200.0, has_text=True, text_grew=True)
    step = next_step.decide(progress, broken, LoopPolicy(), jitter)
    assert isinstance(step, Continue)
    assert (step.progress.failures, step.progress.failing_since_s) == (1, 1200.0)
