"""Limits that two replicas count together: each user's calls, and the wait after a rate limit of the API."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from mcp_server_claude.simulator import directive
from support.chaos.call_results import poll_until
from support.chat_reader import ask_chat, read_until
from support.http_server import events_named, read_events
from support.replicas import running_replicas
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator
    from mcp_server_claude.store.user_rows import UserChanges
    from support.replicas import Replicas

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]

TIMEOUT_S = 90
CHANGES: dict[str, UserChanges] = {
    "ada": {"calls_per_minute": 3, "concurrent": 0},
    "bob": {"calls_per_minute": 0, "concurrent": 2},
}
ENDLESS = directive(tokens=20_000, think=0, pace=100, chars=4)


@pytest.mark.slow
async def test_the_calls_of_a_user_are_counted_over_both_replicas(
    upstream: Simulator, postgres_url: str, tmp_path: Path
) -> None:
    async with running_replicas(tmp_path, upstream.url, postgres_url, changes=CHANGES, real=True) as replicas:
        with anyio.fail_after(TIMEOUT_S):
            async with replicas.client("ada") as ada:
                for _ in range(3):
                    assert (await ask_chat(ada, "Hello."))[-1].json["complete"] is True
                for _ in replicas.servers:
                    refused = await ada.post("/chat", json={"message": "Hello."})
                    assert (refused.status_code, refused.json()["error"]["kind"]) == (429, "user_rate_limit")
                    assert 0 < refused.json()["error"]["retry_after_s"] <= 60
            assert len({number for request, number in replicas.proxy.served if request == "POST /chat"}) == 2
            async with replicas.client("bob") as bob:
                ask = {"message": ENDLESS}
                async with bob.stream("POST", "/chat", json=ask) as one, bob.stream("POST", "/chat", json=ask) as two:
                    homes = [number for _, number in replicas.proxy.served[-2:]]
                    assert sorted(homes) == [0, 1]
                    calls = [(await read_until(read_events(each), 20))[0].json["call"] for each in (one, two)]
                    for _ in replicas.servers:
                        refused = await bob.post("/chat", json={"message": "Hello."})
                        assert (refused.status_code, refused.json()["error"]["kind"]) == (429, "user_concurrency")
                    await bob.post(f"/chat/{calls[0]}/stop", headers={"Content-Type": "application/json"})
                    await poll_until(lambda: running_calls(replicas) == 1)
                assert (await ask_chat(bob, "Hello."))[-1].json["complete"] is True


def running_calls(replicas: Replicas) -> int:
    return len(replicas.rows("select id from user_call where is_running <> 0"))


@pytest.mark.slow
async def test_a_replica_waits_after_a_rate_limit_of_the_other_one(
    upstream: Simulator, postgres_url: str, tmp_path: Path
) -> None:
    fault: dict[str, Any] = {"fault": "status", "status": 429, "retry-after": 8, "times": 1}
    async with running_replicas(tmp_path, upstream.url, postgres_url) as replicas:
        with anyio.fail_after(TIMEOUT_S):
            async with replicas.client("ada") as client:
                for _ in replicas.servers:
                    await ask_chat(client, "Are you warm?")
                upstream.reset()
                answers: list[Any] = []
                other: list[Any] = []

                async def ask_limited() -> None:
                    answers.extend(await ask_chat(client, f"Limited. {directive(**fault)}"))

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ask_limited)
                    await poll_until(lambda: bool(replicas.rows("select rate_limit from cooldown")))
                    other += await ask_chat(client, "Not limited.")
        (waiting, *_) = [each for each in events_named(other, "status") if each["state"] == "waiting"]
        assert "rate limit" in waiting["text"]
        assert replicas.proxy.served[-1][1] != replicas.proxy.served[-2][1]
        assert other[-1].json["complete"] is answers[-1].json["complete"] is True
        assert [request.status for request in message_requests(upstream)].count(429) == 1
