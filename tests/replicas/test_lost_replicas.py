"""A replica that is killed, stopped, or cut off from the database: nothing that was committed is lost."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mcp_server_claude.simulator import directive
from support.chaos.call_results import poll_until
from support.chat_reader import ask_chat, read_until, resume
from support.cuttable_socket import CuttableSocket
from support.http_server import event_text, http_server_process, read_events
from support.replicas import mcp_client, running_replicas
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx2

    from mcp_server_claude.simulator import Simulator
    from support.http_server import HttpServerProcess, ServerSentEvent
    from support.replicas import Replicas

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's"),
]

TIMEOUT_S = 150
LONG = directive(tokens=900, pace=150, chars=4)
ONE_CALL = {"max_tokens": 1_000, "model": "sonnet"}
BUDGET_USD = 1.0


@pytest.fixture
def network(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CuttableSocket]:
    between = CuttableSocket(tmp_path_factory.mktemp("s"), str(conninfo_to_dict(postgres_url)["host"]))
    yield between
    between.cut()


def through(network: CuttableSocket, url: str) -> str:
    """The URL of a database behind a network; in the form of a URL, which the settings demand."""
    parts = conninfo_to_dict(make_conninfo(url, host=str(network.directory)))
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}"


async def begin_answer(client: httpx2.AsyncClient, chars: int, **fields: object) -> list[ServerSentEvent]:
    """The beginning of an answer, whose reader then loses the connection."""
    async with client.stream("POST", "/chat", json={"message": LONG, **fields}) as response:
        assert response.status_code == 200, await response.aread()
        return await read_until(read_events(response), chars)


def home_of(replicas: Replicas) -> int:
    """The number of the replica that got the latest question."""
    return [number for request, number in replicas.proxy.served if request == "POST /chat"][-1]


@pytest.mark.slow
async def test_a_reader_of_a_killed_replica_gets_the_saved_text_from_the_other_one(
    upstream: Simulator, postgres_url: str, tmp_path: Path
) -> None:
    async with running_replicas(
        tmp_path, upstream.url, postgres_url, real=True, budget_usd_per_day=BUDGET_USD
    ) as replicas:
        with anyio.fail_after(TIMEOUT_S):
            async with replicas.client("ada") as client:
                so_far = await begin_answer(client, 400, **ONE_CALL)
                await poll_until(lambda: saved_chars(replicas) >= so_far[-1].offset)
                replicas.servers[home_of(replicas)].kill()
                rest = await resume(client, so_far[-1])
                answer = event_text(so_far + rest)
                assert [each.name for each in rest][-2:] == ["error", "done"]
                assert [each.json["kind"] for each in rest if each.name == "error"] == ["interrupted"]
                thread = so_far[0].json["thread"]
                again = await ask_chat(client, "Continue.", thread=thread, **ONE_CALL)
                assert again[-1].json["complete"] is True
            await upstream.wait_until_idle()
        (first, second) = message_requests(upstream)
        assert len(answer) >= so_far[-1].offset
        assert first.text.startswith(answer)
        assert isinstance(second.body, dict)
        assert answer.strip() in str(second.body["messages"][1]["content"][0]["text"])  # type: ignore[index, call-overload]
        rows = replicas.rows('select "end", state, cost_micros, held_micros from entry order by started_at')
        assert [row["end"] for row in rows] == ["interrupted", "complete"]
        (budget,) = replicas.rows("select spent, held from budget where scope = 'total'")
        assert budget["held"] == 0
        assert budget["spent"] == rows[0]["held_micros"] + rows[1]["cost_micros"]


def saved_chars(replicas: Replicas) -> int:
    return int(replicas.rows("select coalesce(max(chars), 0) as chars from call")[0]["chars"])


@pytest.mark.slow
async def test_the_items_of_a_killed_replica_are_answered_by_another_one_without_a_request(
    upstream: Simulator, postgres_url: str, tmp_path: Path
) -> None:
    items = [f"[item {number}]" for number in range(40)]
    async with running_replicas(tmp_path, upstream.url, postgres_url, real=True, max_concurrent_items=4) as replicas:
        with anyio.fail_after(TIMEOUT_S):
            arguments = {"prompt": f"Name {{item}} {directive(tokens=30, ttft=0.5)}", "items": items}

            async def ask() -> None:
                async with mcp_client(replicas) as client:
                    await client.call_tool("claude_map", arguments)

            worker = ""
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await poll_until(lambda: done_items(replicas) >= 4)
                worker = first_worker(replicas)
                home = replicas.servers[replicas.proxy.served[-1][1]]
                await poll_until(lambda: is_suspended_in_mid_item(home, worker, replicas))
                home.kill()
                tasks.cancel_scope.cancel()
            await poll_until(lambda: done_items(replicas) == len(items))  # without any request
            await poll_until(lambda: replicas.rows("select state from job") == [{"state": "closed"}])
        interrupted = replicas.rows("select * from job_item where interruptions > 0")
        assert interrupted
        workers = {row["worker"] for row in replicas.rows("select worker from entry")}
        assert len(workers) == 2
        assert worker in workers
        assert 0 <= len(message_requests(upstream)) - len(items) <= len(interrupted)


def first_worker(replicas: Replicas) -> str:
    """The server that has begun a job; another one may have joined it since."""
    return str(replicas.rows("select worker from entry order by started_at limit 1")[0]["worker"])


def is_suspended_in_mid_item(server: HttpServerProcess, worker: str, replicas: Replicas) -> bool:
    """Suspend a server, unless it is between one item and the next."""
    server.process.send_signal(signal.SIGSTOP)
    if replicas.rows("select seq from job_item where owner = %s", worker):
        return True
    server.process.send_signal(signal.SIGCONT)
    return False


def done_items(replicas: Replicas) -> int:
    return len(replicas.rows("select seq from job_item where state = 'done'"))


@pytest.mark.slow
async def test_a_suspended_replica_is_given_up_and_closes_its_call_itself_when_it_resumes(
    upstream: Simulator, postgres_url: str, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"real": True, "budget_usd_per_day": BUDGET_USD, "reader_grace_s": 600}
    async with running_replicas(tmp_path, upstream.url, postgres_url, **fields) as replicas:
        with anyio.fail_after(TIMEOUT_S):
            async with replicas.client("ada") as client:
                so_far = await begin_answer(client, 400, **ONE_CALL)
                await poll_until(lambda: saved_chars(replicas) >= so_far[-1].offset)
            home = replicas.servers[home_of(replicas)]
            home.process.send_signal(signal.SIGSTOP)
            async with replicas.direct(1 - home_of(replicas)).client("ada") as client:
                rest = await resume(client, so_far[-1])
                assert [each.json["kind"] for each in rest if each.name == "error"] == ["interrupted"]
                thread = so_far[0].json["thread"]
                again = await ask_chat(client, "Continue.", thread=thread, **ONE_CALL)
                assert again[-1].json["complete"] is True
                home.process.send_signal(signal.SIGCONT)
                await poll_until(lambda: ends(replicas) == call_ends(replicas) == ["complete", "complete"])
                complete = await resume(client, so_far[-1])
        first = next(each for each in message_requests(upstream) if LONG in str(each.body))
        assert event_text(so_far + complete) == first.text
        turns = replicas.rows("select role, call_id from turn order by seq")
        assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant"]
        costs = sum(row["cost_micros"] for row in replicas.rows("select cost_micros from entry"))
        assert replicas.rows("select spent, held from budget where scope = 'total'") == [{"spent": costs, "held": 0}]


def ends(replicas: Replicas) -> list[str]:
    """How each request has ended."""
    return [row["end"] for row in replicas.rows('select "end" from entry order by started_at')]


def call_ends(replicas: Replicas) -> list[str]:
    """How each call has ended. Its text is stored after the end of its request."""
    return [row["end"] for row in replicas.rows('select "end" from call order by started_at')]


@pytest.mark.slow
@pytest.mark.parametrize("is_silent", [False, True])  # with an answer of the network, or with none
async def test_a_replica_cut_off_from_the_database_finishes_its_calls_and_records_them_afterwards(
    upstream: Simulator, postgres_url: str, network: CuttableSocket, tmp_path: Path, *, is_silent: bool
) -> None:
    cut_off = through(network, postgres_url)
    async with running_replicas(
        tmp_path, upstream.url, postgres_url, database_urls=[cut_off, cut_off], budget_usd_per_day=BUDGET_USD
    ) as replicas:
        with anyio.fail_after(TIMEOUT_S):
            async with replicas.client("ada") as client:
                assert (await client.get("/readyz")).json() == {"status": "ready"}
                async with client.stream("POST", "/chat", json={"message": LONG, **ONE_CALL}) as response:
                    events = read_events(response)
                    answer = await read_until(events, 200)
                    (network.hold if is_silent else network.cut)()
                    refused = await client.post("/chat", json={"message": "Me too.", **ONE_CALL})
                    assert refused.status_code == 503, refused.text
                    assert refused.json()["error"]["kind"] == "store"
                    assert refused.json()["error"]["retryable"] is True
                    reasons = (
                        ("no connection to it can be made", "it does not answer") if is_silent else ("no connection",)
                    )
                    assert any(reason in refused.json()["error"]["text"] for reason in reasons)
                    for _ in replicas.servers:
                        ready = await client.get("/readyz")
                        assert (ready.status_code, ready.json()["reasons"]) == (503, ["store"])
                        assert (await client.get("/healthz")).status_code == 200
                    answer += [each async for each in events]
                assert answer[-1].json["complete"] is True
                assert event_text(answer) == message_requests(upstream)[0].text
                assert ends(replicas) == [None]
                (network.release if is_silent else network.restore)()
                await poll_until(lambda: ends(replicas) == ["complete"])
                for server in replicas.servers:
                    async with server.client() as direct:
                        while (await direct.get("/readyz")).status_code != 200:
                            await anyio.lowlevel.checkpoint()
                call = answer[0].id.partition(":")[0]
                saved = replicas.rows("select text from chunk where call_id = %s order by off", call)
                assert "".join(row["text"] for row in saved) == event_text(answer)
        (entry,) = replicas.rows("select cost_micros from entry")
        assert replicas.rows("select spent, held from budget where scope = 'total'") == [
            {"spent": entry["cost_micros"], "held": 0}
        ]
        assert len(message_requests(upstream)) == 1


async def test_a_server_whose_database_never_answers_stays_up_and_reports_it(
    upstream: Simulator, tmp_path: Path
) -> None:
    url = f"postgresql://ada:fake-password@/ledger?host={tmp_path}"
    async with http_server_process(tmp_path / "data", upstream.url, database_url=url) as server:
        with anyio.fail_after(TIMEOUT_S):
            async with server.client() as client:
                for _ in range(2):
                    ready = await client.get("/readyz")
                    assert (ready.status_code, ready.json()["reasons"]) == (503, ["store"])
                    assert (await client.get("/healthz")).status_code == 200
                    refused = await client.post("/chat", json={"message": "Hello."})
                    assert refused.status_code == 503
                    assert "no connection to it can be made" in refused.json()["error"]["text"]
        assert server.process.poll() is None
    assert "fake-password" not in (tmp_path / "http.stderr").read_text()
    assert not message_requests(upstream)


@pytest.mark.slow
async def test_a_running_call_with_a_budget_waits_for_the_database_before_its_next_request(
    upstream: Simulator, postgres_url: str, network: CuttableSocket, tmp_path: Path
) -> None:
    """Its stream breaks while the database is away. The continuation needs a reservation."""
    async with running_replicas(
        tmp_path,
        upstream.url,
        postgres_url,
        count=1,
        database_urls=[through(network, postgres_url)],
        budget_usd_per_day=1.0,
    ) as replicas:
        prompt = directive(tokens=400, pace=150, chars=4, fault="drop", at=800, times=1)
        with anyio.fail_after(TIMEOUT_S):
            async with (
                replicas.client("ada") as client,
                client.stream("POST", "/chat", json={"message": prompt, "model": "sonnet"}) as response,
            ):
                events = read_events(response)
                answer = await read_until(events, 200)
                network.cut()
                async for event in events:
                    answer.append(event)
                    if event.name == "status" and "ledger" in str(event.json["text"]):
                        network.restore()
        assert answer[-1].json["complete"] is True
        first, continuation = message_requests(upstream)
        assert event_text(answer) == upstream.answer_to(cast("dict[str, Any]", first.body))
        assert continuation.status == 200
        await poll_until(lambda: sorted(map(str, ends(replicas))) == ["complete", "failed"])
        spent = sum(row["cost_micros"] for row in replicas.rows("select cost_micros from entry"))
        (budget,) = replicas.rows("select spent, held from budget where scope = 'total'")
        assert budget["held"] == 0
        assert budget["spent"] >= spent
