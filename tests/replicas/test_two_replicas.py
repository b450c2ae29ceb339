"""Two server processes on one database behind a proxy that sends each request to the next one: nobody notices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from mcp_server_claude.simulator import directive
from support.chaos.call_results import poll_until
from support.chat_reader import ask_chat, read_until, resume
from support.http_server import ServerSentEvent, event_text, events_named, read_events
from support.mcp_session import ProgressUpdate, failure_meta, text_blocks, usage_meta
from support.raw_mcp_http import RawMcpClient, raw_mcp_client
from support.replicas import mcp_client, running_replicas
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.types import CallToolResult

    from mcp_server_claude.simulator import Simulator
    from support.replicas import Replicas

pytestmark = pytest.mark.anyio

TIMEOUT_S = 90
JSON = {"Content-Type": "application/json"}
SLOW = directive(tokens=600, think=0, pace=200, chars=4)
ENDLESS = directive(tokens=20_000, think=0, pace=100, chars=4)


@pytest.fixture(autouse=True)
def _begin(replicas: Replicas, api: Simulator) -> None:
    api.reset()
    replicas.proxy.served.clear()


async def test_tools_of_2026_07_28_answer_whichever_replica_a_request_goes_to(
    replicas: Replicas, api: Simulator
) -> None:
    with anyio.fail_after(TIMEOUT_S):
        async with mcp_client(replicas) as client:
            assert len((await client.list_tools()).tools) == 4
            updates: list[ProgressUpdate] = []

            async def on_progress(progress: float, total: float | None, message: str | None) -> None:
                del total
                updates.append(ProgressUpdate(progress, message))

            thread = ""
            for number in range(4):
                arguments: dict[str, Any] = {"prompt": f"Question {number}. {directive(tokens=200)}"}
                arguments |= {"thread": thread} if thread else {}
                result = await client.call_tool("claude_ask", arguments, progress_callback=on_progress)
                assert not result.is_error, text_blocks(result)
                thread = str(usage_meta(result)["thread"])
                assert text_blocks(result)[0] == message_requests(api)[-1].text
            assert updates
            body = message_requests(api)[-1].body
            assert isinstance(body, dict)
            assert len(body["messages"]) == 7  # type: ignore[arg-type]
            resource = await client.read_resource(f"claude://threads/{thread}")
            assert "Question 3." in str(resource)
            usage = text_blocks(await client.call_tool("claude_info", {"about": "usage"}))[0]
            assert re.search(r"\b4\b", usage), usage
    assert replicas.proxy.servers_of("/mcp") == {0, 1}


async def test_a_reader_of_chat_resumes_through_the_other_replica_and_stops_there(
    replicas: Replicas, api: Simulator
) -> None:
    with anyio.fail_after(TIMEOUT_S):
        async with replicas.client("ada") as client:
            async with client.stream("POST", "/chat", json={"message": ENDLESS}) as response:
                so_far = await read_until(read_events(response), 100)
            call = so_far[0].id.partition(":")[0]
            home = replicas.proxy.served[0][1]
            rest: list[ServerSentEvent] = []
            for number in (1 - home, home, 1 - home):
                replicas.proxy.next_server = number
                last = (rest or so_far)[-1]
                headers = {"Last-Event-ID": last.id}
                async with client.stream("GET", f"/chat/{call}", headers=headers) as response:
                    rest += await read_until(read_events(response), last.offset + 100)
            replicas.proxy.next_server = 1 - home
            async with anyio.create_task_group() as tasks:

                async def read_to_end() -> None:
                    rest.extend(await resume(client, rest[-1]))

                tasks.start_soon(read_to_end)
                await poll_until(lambda: len(replicas.proxy.served) == 5)
                replicas.proxy.next_server = 1 - home
                assert (await client.post(f"/chat/{call}/stop", headers=JSON)).json() == {"stopping": True}
            await api.wait_until_idle()
    (request,) = message_requests(api)
    assert request.end == "disconnected"
    text = event_text(so_far + rest)
    assert len(text) > 300
    assert request.text.startswith(text)
    assert rest[-1].name == "done"
    assert rest[-1].json["complete"] is False


@pytest.mark.slow
async def test_a_call_waits_for_a_thread_that_the_other_replica_has_locked_and_its_reader_is_notified(
    replicas: Replicas, api: Simulator
) -> None:
    with anyio.fail_after(TIMEOUT_S):
        async with replicas.client("ada") as client:
            (started, *_) = await ask_chat(client, "Hello.")
            thread = started.json["thread"]
            first: list[ServerSentEvent] = []
            second: list[ServerSentEvent] = []

            async def ask_second() -> None:
                second.extend(await ask_chat(client, "And then?", thread=thread))

            async with anyio.create_task_group() as tasks:
                ask = {"message": SLOW, "thread": thread}
                async with client.stream("POST", "/chat", json=ask) as response:
                    events = read_events(response)
                    first += await read_until(events, 40)
                    tasks.start_soon(ask_second)
                    first += [each async for each in events]
    assert replicas.proxy.served[1][1] != replicas.proxy.served[2][1]
    (waiting,) = [each for each in events_named(second, "status") if each["state"] == "waiting"]
    assert "another server is answering in it" in waiting["text"]
    assert second[-1].json["complete"] is True
    last = message_requests(api)[-1]
    assert isinstance(last.body, dict)
    texts = [str(message) for message in last.body["messages"]]  # type: ignore[union-attr]
    assert len(texts) == 5
    assert event_text(first)[:40] in texts[3]


@pytest.mark.slow
async def test_a_job_and_a_map_run_on_both_replicas_and_can_be_read_and_stopped_on_either(
    replicas: Replicas, api: Simulator
) -> None:
    items = [f"[item {number}]" for number in range(60)]
    results: list[CallToolResult] = []
    job = ""

    async def map_items() -> None:
        async with mcp_client(replicas) as client:
            arguments = {"prompt": f"Name {{item}} {directive(tokens=30, ttft=0.5)}", "items": items}
            results.append(await client.call_tool("claude_map", arguments))

    with anyio.fail_after(TIMEOUT_S):
        async with replicas.client("ada") as http, anyio.create_task_group() as tasks:
            tasks.start_soon(map_items)
            jobs: list[dict[str, Any]] = []
            while not jobs:
                jobs = (await http.get("/jobs")).json()["jobs"]
            job = jobs[0]["id"]
            assert (await http.get(f"/jobs/{job}")).json()["state"] == "running"
            async with http.stream("GET", f"/jobs/{job}", headers={"Accept": "text/event-stream"}) as response:
                events = [each async for each in read_events(response)]
            assert (events[-1].name, events[-1].json["done"]) == ("done", 60)
            for _ in range(2):
                lines = (await http.get(f"/jobs/{job}/output")).text.splitlines()
                assert len(lines) == 60, lines
    assert not results[0].is_error
    states = replicas.rows("select state, count(*) as n from job_item where job_id = %s group by state", job)
    assert states == [{"state": "done", "n": 60}]
    workers = replicas.rows("select distinct worker from entry where job_id = %s", job)
    assert len(workers) == 2
    assert len(message_requests(api)) == 60


async def test_a_session_of_the_pages_is_signed_in_and_out_on_every_replica(replicas: Replicas) -> None:
    with anyio.fail_after(TIMEOUT_S):
        async with replicas.client() as browser:
            origin = {"Origin": replicas.url}
            for _ in range(2):
                assert (await browser.get("/me.json")).status_code == 401
            signed_in = await browser.post("/signin", data={"token": replicas.tokens["ada"]}, headers=origin)
            assert signed_in.status_code == 303
            for _ in range(2):
                assert (await browser.get("/me.json")).json()["name"] == "ada"
                page = await browser.get("/")
                assert page.status_code == 200
                assert "<title>" in page.text
            assert (await browser.get("/me.json")).json()["name"] == "ada"
            assert (await browser.post("/signout", headers=origin)).status_code == 303
            for _ in range(2):
                assert (await browser.get("/me.json")).status_code == 401
    assert replicas.proxy.servers_of("/me.json") == {0, 1}


async def test_a_request_of_a_2025_11_25_session_that_reaches_another_replica_gets_404(replicas: Replicas) -> None:
    token = replicas.tokens["ada"]
    with anyio.fail_after(TIMEOUT_S):
        async with raw_mcp_client(replicas.servers[0].url, "2025-11-25", token) as at_home:
            session = at_home.session
            assert (await at_home.post("tools/list")).status_code == 200
            elsewhere = RawMcpClient(replicas.servers[1].url, "2025-11-25", token, session)
            async with elsewhere.http as http:
                url = f"{elsewhere.url}/mcp"
                posted = await elsewhere.post("tools/list")
                stream = await http.get(url, headers=elsewhere.headers("") | {"accept": "text/event-stream"})
                deleted = await http.delete(url, headers=elsewhere.headers(""))
            assert [answer.status_code for answer in (posted, stream, deleted)] == [404] * 3
            assert {answer.json()["error"]["message"] for answer in (posted, stream, deleted)} == {"Session not found"}
            assert (await at_home.post("tools/list")).status_code == 200  # its own replica still has it
        async with raw_mcp_client(replicas.servers[1].url, "2025-11-25", token) as anew:
            assert (await anew.post("tools/list")).status_code == 200


@pytest.mark.slow
async def test_a_budget_of_both_replicas_holds_to_the_micro_dollar(
    postgres_url: str, api: Simulator, tmp_path: Path
) -> None:
    budget_usd, calls = 0.05, 60
    ends: list[str] = []
    fields: dict[str, Any] = {"budget_usd_per_day": budget_usd, "user_concurrent": 0, "user_calls_per_minute": 0}
    async with running_replicas(tmp_path, api.url, postgres_url, **fields) as two:
        with anyio.fail_after(TIMEOUT_S):
            async with mcp_client(two) as client, mcp_client(two, "bob") as other, anyio.create_task_group() as tasks:

                async def ask(number: int) -> None:
                    arguments = {
                        "prompt": f"Number {number}. {directive(tokens=100 + number)}",
                        "model": "sonnet",
                        "max_tokens": 400,
                    }
                    result: CallToolResult = await (client, other)[number % 2].call_tool("claude_ask", arguments)
                    ends.append(str(failure_meta(result)["kind"]) if result.is_error else "complete")

                for number in range(calls):
                    tasks.start_soon(ask, number)
        rows = two.rows("select worker, state, cost_micros, request_id from entry")
        (budget,) = two.rows("select spent, held from budget where scope = 'total'")
        holds = two.rows("select * from hold where spent < 0")
    # What is left at the end may pay for thinking alone.
    assert {"complete", "budget"} <= set(ends) <= {"complete", "budget", "max_tokens"}
    assert len({row["worker"] for row in rows}) == 2
    assert {row["state"] for row in rows} == {"closed"}
    assert (budget["held"], holds) == (0, [])
    assert budget["spent"] == sum(row["cost_micros"] for row in rows) <= budget_usd * 1e6
    assert {row["request_id"] for row in rows} == {request.request_id for request in message_requests(api)}
