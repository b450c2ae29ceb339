"""Approvals of costs behind a round-robin proxy: any replica takes the answer, and one of any number of repetitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp.types import CallToolResult, ElicitResult, InputRequiredResult

from support.mcp_session import failure_meta, text_blocks
from support.replicas import mcp_client, running_replicas
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcp import Client
    from mcp.client import ClientRequestContext
    from mcp.types import ElicitRequestParams

    from mcp_server_claude.simulator import Simulator
    from support.replicas import Replicas

pytestmark = pytest.mark.anyio

TIMEOUT_S = 120
YES = ElicitResult(action="accept", content={"proceed": True})
QUESTION = {"prompt": "A long one."}


@pytest.fixture(scope="module")
async def replicas(
    module_database_url: str, api: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Replicas]:
    """Two servers that ask before they spend a cent."""
    home = tmp_path_factory.mktemp("approvals")
    async with running_replicas(home, api.url, module_database_url, confirm_above_usd=0.01) as running:
        yield running


@pytest.fixture(autouse=True)
def _begin(replicas: Replicas, api: Simulator) -> None:
    api.reset()
    replicas.proxy.served.clear()


async def never_asked(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    """The user of a client that is only known to be able to ask: the tests answer themselves."""
    raise AssertionError((context, params))


async def ask(client: Client, first: InputRequiredResult | None = None) -> CallToolResult | InputRequiredResult:
    """Call the tool, or repeat the call with the user's approval."""
    more: dict[str, Any] = {}
    if first is not None:
        more = {
            "input_responses": dict.fromkeys(first.input_requests or {}, YES),
            "request_state": first.request_state,
        }
    result = await client.session.call_tool("claude_ask", QUESTION, allow_input_required=True, **more)
    assert isinstance(result, (CallToolResult, InputRequiredResult))
    return result


async def test_an_approval_is_taken_by_another_replica_once(replicas: Replicas, api: Simulator) -> None:
    one, two = replicas.direct(0), replicas.direct(1)
    with anyio.fail_after(TIMEOUT_S):
        async with (
            mcp_client(one, elicitation_callback=never_asked) as asking,
            mcp_client(two, elicitation_callback=never_asked) as answering,
        ):
            first = await ask(asking)
            assert isinstance(first, InputRequiredResult), first
            answer = await ask(answering, first)
            assert isinstance(answer, CallToolResult), answer
            assert not answer.is_error, text_blocks(answer)
            for client in (asking, answering):  # the same answer again
                assert isinstance(await ask(client, first), InputRequiredResult)
    assert len(message_requests(api)) == 1


async def test_of_repetitions_at_the_same_time_one_is_sent(replicas: Replicas, api: Simulator) -> None:
    with anyio.fail_after(TIMEOUT_S):
        async with mcp_client(replicas, elicitation_callback=never_asked) as client:
            first = await ask(client)
            assert isinstance(first, InputRequiredResult), first
            results: list[CallToolResult | InputRequiredResult] = []

            async def repeat() -> None:
                results.append(await ask(client, first))

            async with anyio.create_task_group() as tasks:
                for _ in range(6):
                    tasks.start_soon(repeat)
    answers = [each for each in results if isinstance(each, CallToolResult)]
    assert len([each for each in answers if not each.is_error]) == 1
    assert {failure_meta(each)["kind"] for each in answers if each.is_error} <= {"confirmation"}
    assert replicas.proxy.servers_of("/mcp") == {0, 1}
    assert len(message_requests(api)) == 1


async def test_the_token_of_a_refusal_at_chat_holds_at_another_replica_once(replicas: Replicas, api: Simulator) -> None:
    with anyio.fail_after(TIMEOUT_S):
        async with replicas.direct(0).client("ada") as one, replicas.direct(1).client("ada") as two:
            refused = await one.post("/chat", json={"message": "Long"})
            assert refused.status_code == 402, refused.text
            repeated = {"message": "Long", "approval": refused.json()["error"]["approval"]}
            assert (await two.post("/chat", json=repeated)).status_code == 200
            for client in (one, two):
                assert (await client.post("/chat", json=repeated)).status_code == 402
    assert len(message_requests(api)) == 1
