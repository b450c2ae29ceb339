"""`POST /chat` above `MCP_CLAUDE_CONFIRM_ABOVE_USD`: refused with a token, and answered with it, once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mcp_server_claude.calls.pending_approvals import MAX_PENDING_QUESTIONS, SpendingApprovals
from mcp_server_claude.store import Store
from support.http_server import http_server_thread
from support.mcp_session import ledger_rows
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


async def refusal(client: httpx2.AsyncClient, **fields: object) -> dict[str, Any]:
    """The error by which a question's cost is to be approved."""
    response = await client.post("/chat", json=fields)
    assert response.status_code == 402, response.text
    error = response.json()["error"]
    assert error["kind"] == "confirmation"
    return error


async def test_a_question_above_the_limit_is_answered_with_the_token_of_its_refusal(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with http_server_thread(tmp_path, upstream.url, confirm_above_usd=0.05) as server, server.client() as client:
        error = await refusal(client, message="Long")
        assert error["class"] == "request_error"
        assert error["retryable"] is False
        assert error["highest_usd"] > 0.05
        assert error["text"].startswith("This call may cost up to $")
        assert not message_requests(upstream)
        assert not ledger_rows(tmp_path)
        answered = await client.post("/chat", json={"message": "Long", "approval": error["approval"]})
        assert answered.status_code == 200
        assert "event: done" in answered.text
    assert len(message_requests(upstream)) == 1


async def test_an_approval_holds_for_one_request_that_is_otherwise_the_same(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with http_server_thread(tmp_path, upstream.url, confirm_above_usd=0.05) as server, server.client() as client:
        token = (await refusal(client, message="Long"))["approval"]
        assert (await refusal(client, message="Longer", approval=token))["approval"] != token
        assert (await refusal(client, message="Long", model="opus", approval=token))["approval"] != token
        assert (await client.post("/chat", json={"message": "Long", "approval": token})).status_code == 200
        assert (await refusal(client, message="Long", approval=token))["approval"] != token
        await refusal(client, message="Long", approval="approval_made_up")
    assert len(message_requests(upstream)) == 1


async def test_an_approval_holds_for_the_user_who_was_asked(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path, upstream.url, users=["ada", "bob"], confirm_above_usd=0.05) as server:
        async with server.client("ada") as ada:
            error = await refusal(ada, message="Long")
            assert "MCP_CLAUDE" not in error["text"]
        async with server.client("bob") as bob:
            await refusal(bob, message="Long", approval=error["approval"])
    assert not message_requests(upstream)


async def test_a_question_below_the_limit_needs_no_approval(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path, upstream.url, confirm_above_usd=0.05) as server, server.client() as client:
        for fields in ({"max_usd": 0.04}, {"max_tokens": 10}):
            assert (await client.post("/chat", json={"message": "Short"} | fields)).status_code == 200
        assert (await client.post("/chat", json={"message": ""})).status_code == 400


async def test_an_invalid_question_is_refused_for_that_and_not_for_its_cost(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with http_server_thread(tmp_path, upstream.url, confirm_above_usd=0) as server, server.client() as client:
        assert (await client.post("/chat", json={"message": "Hi", "model": "no-such-model"})).status_code == 404
        assert (await client.post("/chat", json={"message": "Hi", "thread": "t_none"})).status_code == 404


async def test_without_the_setting_an_approval_is_ignored(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path, upstream.url) as server, server.client() as client:
        assert (await client.post("/chat", json={"message": "Long", "approval": "approval_1"})).status_code == 200


async def test_a_token_is_used_once_and_pending_ones_are_bounded(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "data")
    approvals = SpendingApprovals(store)
    token = await approvals.issue_token("a")
    assert not await approvals.use_token(token, "b")
    assert await approvals.use_token(token, "a")
    assert not await approvals.use_token(token, "a")
    oldest = await approvals.issue_token("a")
    for number in range(MAX_PENDING_QUESTIONS):
        await approvals.issue_token(str(number))
    assert not await approvals.use_token(oldest, "a")
    await store.close()
