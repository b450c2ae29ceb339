"""Calls that could cost more than a limit: the user is asked, in both protocol eras and over every transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult, InputRequiredResult

from mcp_server_claude.calls.pending_approvals import MAX_PENDING_QUESTIONS, SpendingApprovals
from mcp_server_claude.store import Store
from support.mcp_session import (
    ALL_TRANSPORTS,
    ProtocolMode,
    Transport,
    connect,
    failure_meta,
    ledger_rows,
    text_blocks,
)
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.types import InputResponses

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


class UserAnswers:
    """A user who answers each question with the next of some answers."""

    def __init__(self, *answers: ElicitResult) -> None:
        self.questions: list[str] = []
        self._answers = list(answers)

    async def __call__(self, _: object, params: ElicitRequestParams) -> ElicitResult:
        self.questions.append(params.message)
        return self._answers.pop(0)


YES = ElicitResult(action="accept", content={"proceed": True})
NO = ElicitResult(action="accept", content={"proceed": False})
DECLINE, CANCEL = ElicitResult(action="decline"), ElicitResult(action="cancel")


@pytest.mark.parametrize(("transport", "mode"), ALL_TRANSPORTS)
async def test_a_call_above_the_limit_is_sent_once_its_user_has_approved_it(
    upstream: Simulator, tmp_path: Path, transport: Transport, mode: ProtocolMode
) -> None:
    user = UserAnswers(YES, YES)
    async with connect(
        transport,
        mode,
        tmp_path / "data",
        base_url=upstream.url,
        confirm_above_usd=0.05,
        elicitation_callback=user,
    ) as session:
        assert (await session.ask("Long")).is_error is False
        assert (await session.ask("Cheap", max_usd=0.04)).is_error is False
        assert (await session.ask("Long", dry_run=True)).is_error is False
        assert len(user.questions) == 1
        assert user.questions[0].startswith("This call may cost up to $")
        await session.ask("Long")  # an approval holds for one call
    assert len(set(user.questions)) == 2
    assert len(message_requests(upstream)) == 3


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("answer", [NO, DECLINE, CANCEL], ids=["no", "decline", "cancel"])
async def test_a_call_that_its_user_does_not_approve_is_not_sent(
    upstream: Simulator, tmp_path: Path, mode: ProtocolMode, answer: ElicitResult
) -> None:
    async with connect(
        "memory",
        mode,
        tmp_path / "data",
        base_url=upstream.url,
        confirm_above_usd=0,
        elicitation_callback=UserAnswers(answer),
    ) as session:
        result = await session.ask("Long")
    assert result.is_error
    assert "did not approve" in text_blocks(result)[0]
    assert failure_meta(result)["kind"] == "confirmation"
    assert not message_requests(upstream)
    assert not ledger_rows(tmp_path / "data")


@pytest.mark.parametrize(("transport", "mode"), ALL_TRANSPORTS)
async def test_a_client_without_elicitation_gets_an_error_that_names_what_needs_no_approval(
    upstream: Simulator, tmp_path: Path, transport: Transport, mode: ProtocolMode
) -> None:
    async with connect(transport, mode, tmp_path / "data", base_url=upstream.url, confirm_above_usd=0.05) as session:
        result = await session.ask("Long")
        assert result.is_error
        assert "cannot ask" in text_blocks(result)[0]
        assert (await session.ask("Cheap", max_usd=0.04)).is_error is False
        mapped = await session.client.call_tool("claude_map", {"prompt": "Say {item}", "items": ["a", "b"]})
        assert mapped.is_error
    assert len(message_requests(upstream)) == 1


async def test_an_approval_that_is_sent_twice_is_requested_again(upstream: Simulator, tmp_path: Path) -> None:
    """In 2026-07-28 the client repeats the call with the answer and a state, which the SDK accepts for ten minutes."""
    async with connect(
        "memory",
        "auto",
        tmp_path / "data",
        base_url=upstream.url,
        confirm_above_usd=0.05,
        elicitation_callback=UserAnswers(),
    ) as mcp_session:
        session, arguments = mcp_session.client.session, {"prompt": "Long"}
        first = await session.call_tool("claude_ask", arguments, allow_input_required=True)
        assert isinstance(first, InputRequiredResult)
        answers: InputResponses = dict.fromkeys(first.input_requests or {}, YES)
        results = [
            await session.call_tool(
                "claude_ask",
                arguments,
                input_responses=answers,
                request_state=first.request_state,
                allow_input_required=True,
            )
            for _ in range(2)
        ]
    assert [type(each) for each in results] == [CallToolResult, InputRequiredResult]
    assert len(message_requests(upstream)) == 1


async def test_of_two_repetitions_at_the_same_time_one_is_sent(upstream: Simulator, tmp_path: Path) -> None:
    async with connect(
        "memory",
        "auto",
        tmp_path / "data",
        base_url=upstream.url,
        confirm_above_usd=0.05,
        elicitation_callback=UserAnswers(),
    ) as mcp_session:
        session, arguments = mcp_session.client.session, {"prompt": "Long"}
        first = await session.call_tool("claude_ask", arguments, allow_input_required=True)
        assert isinstance(first, InputRequiredResult)
        answers: InputResponses = dict.fromkeys(first.input_requests or {}, YES)
        results: list[CallToolResult | InputRequiredResult] = []

        async def repeat() -> None:
            results.append(
                await session.call_tool(
                    "claude_ask",
                    arguments,
                    input_responses=answers,
                    request_state=first.request_state,
                    allow_input_required=True,
                )
            )

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(repeat)
            tasks.start_soon(repeat)
    sent = [each for each in results if isinstance(each, CallToolResult) and not each.is_error]
    assert len(sent) == 1
    assert len(message_requests(upstream)) == 1


async def test_two_same_calls_at_once_are_each_approved_in_2025_11_25(upstream: Simulator, tmp_path: Path) -> None:
    user = UserAnswers(YES, YES)
    async with (
        connect(
            "memory",
            "legacy",
            tmp_path / "data",
            base_url=upstream.url,
            confirm_above_usd=0.05,
            elicitation_callback=user,
        ) as mcp_session,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(mcp_session.ask, "Long")
        tasks.start_soon(mcp_session.ask, "Long")
    assert len(set(user.questions)) == 2
    assert len(message_requests(upstream)) == 2


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_job_of_many_items_is_approved_as_a_whole(
    upstream: Simulator, tmp_path: Path, mode: ProtocolMode
) -> None:
    user = UserAnswers(YES)
    async with connect(
        "memory",
        mode,
        tmp_path / "data",
        base_url=upstream.url,
        confirm_above_usd=0.05,
        project_dir=str(tmp_path),
        elicitation_callback=user,
    ) as session:
        result = await session.client.call_tool("claude_map", {"prompt": "Say {item}", "items": ["a", "b"]})
    assert not result.is_error
    assert len(user.questions) == 1
    assert len(message_requests(upstream)) == 2


async def test_an_answered_elicitation_is_not_pending_and_pending_ones_are_bounded(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "data")
    approvals = SpendingApprovals(store)
    first = await approvals.add_question("a", "Send it?")
    assert await approvals.pending_question("a") == first
    assert await approvals.close_question("a", first)
    assert not await approvals.close_question("a", first)
    assert await approvals.pending_question("a") is None
    second = await approvals.add_question("a", "Send it?")
    assert second != first
    assert not await approvals.close_question("a", first)  # the answer to the first does not approve the second
    assert await approvals.pending_question("a") == second
    for number in range(MAX_PENDING_QUESTIONS):
        await approvals.add_question(str(number), "Send it?")
    assert await approvals.pending_question("a") is None
    await store.close()
