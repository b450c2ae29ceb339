from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from mcp_server_claude.engine.rate_limit_cooldown import (
    MAX_MODELS,
    MAX_SHARED_PAUSE_S,
    RateLimitCooldown,
    RateLimitCooldowns,
)
from mcp_server_claude.errors import TemporaryError
from mcp_server_claude.simulator import Pace, Simulator, directive
from support.mcp_session import STYLE_META, McpSession, ProgressUpdate, connect, failure_meta, text_blocks, usage_meta
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from mcp.types import CallToolResult

    from mcp_server_claude.call_types import CallEvent
    from mcp_server_claude.simulator import LoggedRequest

pytestmark = pytest.mark.anyio


@pytest.fixture
async def api() -> AsyncIterator[Simulator]:
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as simulator:
        yield simulator


def open_session(api: Simulator, tmp_path: Path, **fields: object) -> AbstractAsyncContextManager[McpSession]:
    return connect("memory", "auto", tmp_path / "data", client_name="test", base_url=api.url, **fields)


def most_at_once(records: list[LoggedRequest]) -> int:
    """How many of these requests were under way at the same moment."""
    moments = [(record.arrived_at, 1) for record in records]
    moments += [(record.ended_at, -1) for record in records if record.ended_at is not None]
    most = running = 0
    for _, step in sorted(moments):
        running += step
        most = max(most, running)
    return most


def prompt_of(record: LoggedRequest) -> str:
    (message,) = cast("list[dict[str, str]]", cast("dict[str, object]", record.body)["messages"])
    return message["content"]


async def ask_until(session: McpSession, prompt: str, words: str, seen: anyio.Event) -> None:
    """Ask in style `status`; `seen` is set when the client receives these words."""

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert progress >= 0
        assert total is None
        if words in (message or ""):
            seen.set()

    await session.client.call_tool(
        "claude_ask", {"prompt": prompt}, progress_callback=on_progress, meta={STYLE_META: "status"}
    )


# --------------------------------------------------------------------- places


async def test_the_concurrency_limit_holds_upstream_and_every_call_is_answered(api: Simulator, tmp_path: Path) -> None:
    results: list[bool | None] = []
    async with open_session(api, tmp_path, max_concurrent=3) as session:

        async def ask(n: int) -> None:
            results.append((await session.ask(f"{n} [[sim: ttft=0.1 tokens=20]]")).is_error)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for n in range(12):
                    tasks.start_soon(ask, n)
    assert results == [False] * 12
    assert len(message_requests(api)) == 12
    assert most_at_once(message_requests(api)) == 3


async def test_at_most_eight_of_twelve_calls_run_at_once_by_default(api: Simulator, tmp_path: Path) -> None:
    async with open_session(api, tmp_path) as session:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for n in range(12):
                    tasks.start_soon(lambda n=n: session.ask(f"{n} [[sim: ttft=0.2 tokens=20]]"))
    assert most_at_once(message_requests(api)) == 8


async def test_a_call_that_waits_for_a_slot_reports_it_and_runs_when_another_ends(
    api: Simulator, tmp_path: Path
) -> None:
    waits = anyio.Event()
    async with open_session(api, tmp_path, max_concurrent=1) as session:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                first = anyio.CancelScope()

                async def stalls() -> None:
                    with first:
                        await session.ask(f"first {directive(fault='stall', at=9)}")

                tasks.start_soon(stalls)
                await api.wait_for_requests(2)  # the list of models, and the message
                tasks.start_soon(ask_until, session, "second", "waiting for a slot, 1 running now", waits)
                await waits.wait()
                assert len(message_requests(api)) == 1
                first.cancel()
    assert [prompt_of(record).split()[0] for record in message_requests(api)] == ["first", "second"]
    assert message_requests(api)[1].end == "complete"


async def test_a_wait_for_a_slot_has_no_message_in_style_text(api: Simulator, tmp_path: Path) -> None:
    updates: list[ProgressUpdate] = []
    async with open_session(api, tmp_path, max_concurrent=1) as session:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: session.ask("first [[sim: ttft=0.3]]"))
                await api.wait_for_requests(2)
                result = await session.ask("second", updates=updates)
                assert "".join(each.message or "" for each in updates) == text_blocks(result)[0]
    assert [each.message for each in updates].count(None) >= 2


async def test_a_call_that_is_cancelled_while_it_waits_takes_no_slot(api: Simulator, tmp_path: Path) -> None:
    waits = anyio.Event()
    async with open_session(api, tmp_path, max_concurrent=1) as session:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: session.ask("first [[sim: ttft=0.5]]"))
                await api.wait_for_requests(2)
                async with anyio.create_task_group() as waiting:
                    waiting.start_soon(ask_until, session, "second", "waiting for a slot", waits)
                    await waits.wait()
                    waiting.cancel_scope.cancel()
                assert not (await session.ask("third")).is_error
    assert [prompt_of(record).split()[0] for record in message_requests(api)] == ["first", "third"]


async def test_a_failed_call_returns_its_slot(api: Simulator, tmp_path: Path) -> None:
    async with open_session(api, tmp_path, max_concurrent=1, max_retries=0) as session:
        for fault in ("status=400", "fault=html", "fault=drop at=headers", "stop=refusal"):
            assert (await session.ask(f"x [[sim: {fault}]]")).is_error
        with anyio.fail_after(30):
            assert not (await session.ask("x")).is_error


async def test_a_call_without_a_free_slot_in_time_is_rejected(api: Simulator, tmp_path: Path) -> None:
    """Each of them would take ten seconds, has two, and there is one place."""
    results: list[CallToolResult] = []
    async with open_session(api, tmp_path, max_concurrent=1, deadline_s=2) as session:
        await session.info(about="models")  # the import of the SDK takes longer than that

        async def ask(prompt: str) -> None:
            results.append(await session.ask(prompt))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for n in range(12):
                    tasks.start_soon(ask, f"{n} [[sim: tokens=400 pace=40]]")
    refused = [result for result in results if result.is_error and failure_meta(result)["kind"] == "capacity"]
    assert refused
    assert all("No slot for the call became free in time." in text_blocks(result)[0] for result in refused)
    assert len(message_requests(api)) == len(results) - len(refused) > 0
    assert most_at_once(message_requests(api)) == 1


# --------------------------------------------------------------------- the brake that all share


async def test_a_retry_after_of_one_call_pauses_all_calls(api: Simulator, tmp_path: Path) -> None:
    one_waits, other_waits = anyio.Event(), anyio.Event()
    async with open_session(api, tmp_path) as session:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                limited = f"one {directive(status=429, retry_after=1.5, times=1)}"
                tasks.start_soon(ask_until, session, limited, "rate limit reached, trying again in 1.", one_waits)
                await one_waits.wait()
                for n in range(4):
                    tasks.start_soon(
                        ask_until, session, f"other {n}", "the rate limit is reached, trying again in", other_waits
                    )
                await other_waits.wait()
    first, *others = message_requests(api)
    assert first.status == 429
    assert first.ended_at is not None
    assert len(others) == 5
    assert all(record.status == 200 for record in others)
    assert min(record.arrived_at for record in others) >= first.ended_at + 1.5


async def test_a_wait_that_cannot_end_in_time_fails_at_once_and_names_the_time_to_retry(
    api: Simulator, tmp_path: Path
) -> None:
    async with open_session(api, tmp_path) as session:
        with anyio.fail_after(30):
            result = await session.ask(directive(status=429, retry_after=3600))
            (request,) = message_requests(api)
            assert failure_meta(result) == {
                "class": "temporary_error",
                "kind": "rate_limit",
                "retryable": True,
                "retry_after_s": 3600,
                "request_id": request.request_id,
            }
            assert "Try again in 3600 s." in text_blocks(result)[0]
            assert usage_meta(result)["attempts"] == 1
            assert not (await session.ask("Nobody else is held up by that.")).is_error


@pytest.mark.parametrize("patience", [{"retry_for_s": 5}, {"deadline_s": 5}])
async def test_the_time_left_of_a_call_decides_whether_it_waits(
    api: Simulator, tmp_path: Path, patience: dict[str, float]
) -> None:
    async with open_session(api, tmp_path, **patience) as session:
        with anyio.fail_after(30):
            result = await session.ask(directive(status=529, retry_after=6))
            assert failure_meta(result)["retry_after_s"] == 6
            assert len(message_requests(api)) == 1


async def test_a_call_with_less_time_than_the_cooldown_fails_at_once(api: Simulator, tmp_path: Path) -> None:
    async with open_session(api, tmp_path, deadline_s=25) as session:
        with anyio.fail_after(60):
            assert failure_meta(await session.ask(directive(status=429, retry_after=50)))["retry_after_s"] == 50
            result = await session.ask("another")
    assert len(message_requests(api)) == 1
    assert failure_meta(result)["kind"] == "rate_limit"
    assert 25 < cast("float", failure_meta(result)["retry_after_s"]) <= 50
    assert usage_meta(result)["attempts"] == 0


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        (directive(fault="spend_limit"), 1),
        (directive(fault="spend_limit", should_retry="true"), 1),
        (directive(fault="spend_limit", should_retry="true", retry_after_ms=1), 1),
        (directive(status=402, type="billing_error", should_retry="true"), 1),
        (directive(status=529, should_retry="false"), 1),
        (directive(status=500, should_retry="false"), 1),
        (directive(status=400, should_retry="true", retry_after_ms=1), 3),
        (directive(status=429, retry_after_ms=1), 3),
        (directive(status=400), 1),
    ],
)
async def test_the_retry_advice_of_the_api_is_followed_except_for_permanent_errors(
    api: Simulator, tmp_path: Path, fault: str, tries: int
) -> None:
    async with open_session(api, tmp_path, max_retries=2) as session:
        with anyio.fail_after(30):
            result = await session.ask(fault)
    assert result.is_error
    assert len(message_requests(api)) == tries == usage_meta(result)["attempts"]


# --------------------------------------------------------------------- the brake itself


@pytest.mark.parametrize(("limit", "wait_s"), [("50", 1.0), ("5000", 0.01), ("1", 50.0)])
async def test_with_no_request_left_calls_wait_until_one_is_free_and_not_until_the_bucket_is_full(
    limit: str, wait_s: float
) -> None:
    cooldown = RateLimitCooldown()
    headers = {
        "anthropic-ratelimit-requests-limit": limit,
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": (datetime.now(UTC) + timedelta(seconds=50)).isoformat(),
    }
    cooldown.update_from_headers(headers | {"anthropic-ratelimit-requests-remaining": "1"})
    assert cooldown.is_clear
    cooldown.update_from_headers(headers)
    with pytest.raises(TemporaryError) as caught:
        await cooldown.wait_until_clear(lambda _: None, timeout_s=-1)
    assert caught.value.retry_after_s == pytest.approx(wait_s, rel=0.2)


@pytest.mark.parametrize("limit", ["", "0", "many"])
async def test_without_a_rate_limit_no_call_waits_for_a_reset(limit: str) -> None:
    cooldown = RateLimitCooldown()
    cooldown.update_from_headers(
        {
            "anthropic-ratelimit-requests-limit": limit,
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": (datetime.now(UTC) + timedelta(seconds=50)).isoformat(),
        }
    )
    assert cooldown.is_clear


def test_each_model_has_a_limit_of_its_own_except_opus_4_and_sonnet_4() -> None:
    cooldowns = RateLimitCooldowns()
    cooldowns.for_model("claude-opus-4-8").pause_for(30)
    assert not cooldowns.for_model("us.anthropic.claude-opus-4-7-v1").is_clear
    for model in ("claude-sonnet-4-6", "claude-opus-5", "claude-opus-5-5", "claude-haiku-4-5"):
        assert cooldowns.for_model(model).is_clear
    cooldowns.for_model("claude-opus-5").pause_for(30)
    assert cooldowns.for_model("claude-opus-5-5").is_clear
    assert not cooldowns.for_model("claude-opus-5").is_clear


def test_cooldowns_of_invented_models_do_not_accumulate() -> None:
    cooldowns = RateLimitCooldowns()
    cooldowns.for_model("busy").pause_for(30)
    idle = cooldowns.for_model("idle")
    for n in range(MAX_MODELS + 1):
        cooldowns.for_model(f"model-{n}")
    assert not cooldowns.for_model("busy").is_clear
    assert cooldowns.for_model("idle") is not idle


async def test_a_cooldown_of_one_model_does_not_delay_another(api: Simulator, tmp_path: Path) -> None:
    async with open_session(api, tmp_path, deadline_s=5) as session:
        with anyio.fail_after(30):
            await session.ask(directive(status=429, retry_after=30), model="claude-opus-5-5")
            assert failure_meta(await session.ask("Tea?", model="claude-opus-5-5"))["kind"] == "rate_limit"
            assert not (await session.ask("Tea?", model="claude-sonnet-5-5")).is_error
    assert len(message_requests(api)) == 2


@pytest.mark.parametrize("reset", ["", "soon", "2020-01-01T00:00:00Z", "9999-01-01T00:00:00Z"])
async def test_a_past_distant_or_invalid_reset_pauses_no_call(reset: str) -> None:
    ask_until: list[CallEvent] = []
    cooldown = RateLimitCooldown()
    cooldown.update_from_headers(
        {
            "anthropic-ratelimit-requests-limit": "1",
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": reset,
        }
    )
    with anyio.fail_after(10):
        await cooldown.wait_until_clear(ask_until.append, timeout_s=9)
    assert ask_until == []


async def test_a_cooldown_that_is_extended_is_waited_for_again() -> None:
    cooldown = RateLimitCooldown()
    ask_until: list[CallEvent] = []

    def on_progress(event: CallEvent) -> None:
        if not ask_until:
            cooldown.pause_for(0.8)
        ask_until.append(event)

    cooldown.pause_for(0.01)
    with anyio.fail_after(10):
        await cooldown.wait_until_clear(on_progress, timeout_s=9)
    assert len(ask_until) == 2


async def test_no_call_waits_for_a_cooldown_longer_than_its_limit() -> None:
    cooldown = RateLimitCooldown()
    cooldown.pause_for(MAX_SHARED_PAUSE_S)
    with pytest.raises(TemporaryError) as caught:
        await cooldown.wait_until_clear(lambda _: None, timeout_s=MAX_SHARED_PAUSE_S - 1)
    assert caught.value.retry_after_s == pytest.approx(MAX_SHARED_PAUSE_S, abs=1)
