"""`POST /jobs`: a question or one prompt over many items, started over HTTP and answered in the background."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from mcp_server_claude.jobs import batch_items, job_runner
from mcp_server_claude.simulator import Pace, Simulator
from support.http_server import http_server_thread
from support.mcp_session import ledger_rows
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    import httpx2

pytestmark = pytest.mark.anyio
PATIENCE_S = 600.0
"""Seconds after which a test that hangs fails; how busy the machine is proves nothing."""
MAP: dict[str, Any] = {"message": "Name {item}. [[sim: tokens=6]]", "items": ["tea", "milk"]}


@pytest.fixture
async def batch_api(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Simulator]:
    """The API, where a batch has ended when it is looked at for the first time, which is soon."""
    monkeypatch.setattr(batch_items, "MIN_POLL_INTERVAL_S", 0.01)
    monkeypatch.setattr(job_runner, "JOB_POLL_INTERVAL_S", 0.05)
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as simulator:
        yield simulator


async def run_job(client: httpx2.AsyncClient, **fields: object) -> dict[str, Any]:
    """Start a job, follow its events to the last one, and return the job as it is then."""
    with anyio.fail_after(PATIENCE_S):
        started = await client.post("/jobs", json=fields)
        assert started.status_code == 202, started.text
        assert started.headers["location"] == f"/jobs/{started.json()['id']}"
        async with client.stream("GET", started.headers["location"], headers={"accept": "text/event-stream"}) as events:
            text = (await events.aread()).decode()
    assert "event: done" in text
    return (await client.get(started.headers["location"])).json()


async def output_of(client: httpx2.AsyncClient, job: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await client.get(f"/jobs/{job['id']}/output")).text.splitlines()]


async def test_items_of_the_body_are_answered_in_order_and_the_same_request_continues_the_job(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with http_server_thread(tmp_path, upstream.url) as server, server.client() as client:
        job = await run_job(client, **MAP)
        assert (job["state"], job["tool"], job["done"], job["batch"]) == ("complete", "claude_map", 2, False)
        assert [line["input"] for line in await output_of(client, job)] == MAP["items"]
        assert (await client.get("/jobs")).json()["jobs"][0]["id"] == job["id"]
        assert (await run_job(client, **MAP))["id"] == job["id"]
    assert len(message_requests(upstream)) == 2
    assert {(row["tool"], row["source"]) for row in ledger_rows(tmp_path)} == {("claude_map", "http")}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", '\ufeffname,town\nAda,London\n"Grace\nDr.",York\n'),
        ("rows.tsv", "name\ttown\nAda\tLondon\nGrace\tYork\n"),
        ("rows.jsonl", '{"name": "Ada", "town": "London"}\n{"name": "Grace", "town": "York"}\n'),
    ],
)
@pytest.mark.parametrize("is_base64", [True, False])
async def test_each_row_of_an_uploaded_table_is_an_item(
    upstream: Simulator, tmp_path: Path, name: str, text: str, *, is_base64: bool
) -> None:
    encoded = b64encode(text.encode()).decode()
    escaped = text.replace("%", "%25").replace("\n", "%0A")
    table = {"name": name, "data": f"data:;base64,{encoded}" if is_base64 else f"data:text/plain,{escaped}"}
    async with http_server_thread(tmp_path, upstream.url) as server, server.client() as client:
        job = await run_job(client, message="Where is {name} of {town}? [[sim: tokens=6]]", table=table)
        assert [line["input"]["town"] for line in await output_of(client, job)] == ["London", "York"]


async def test_a_question_is_answered_in_the_background_and_read_as_a_call(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path, upstream.url) as server, server.client() as client:
        job = await run_job(client, message="What is tea?")
        answer = await client.get(f"/chat/{job['call_id']}", headers={"accept": "text/plain"})
    assert (job["state"], job["items"], job["tool"]) == ("complete", 1, "chat")
    (request,) = message_requests(upstream)
    assert answer.text.startswith(request.text)


@pytest.mark.parametrize("fields", [MAP, {"message": "What is tea?"}], ids=["items", "question"])
async def test_a_batch_costs_half(batch_api: Simulator, tmp_path: Path, fields: dict[str, Any]) -> None:
    async with http_server_thread(tmp_path, batch_api.url) as server, server.client() as client:
        estimate = (await client.post("/jobs", json=fields | {"dry_run": True})).json()
        job = await run_job(client, **fields, batch=True)
    assert (job["state"], job["batch"]) == ("complete", True)
    assert not message_requests(batch_api)
    assert {row["service_tier"] for row in ledger_rows(tmp_path)} == {"batch"}
    requested, in_batch = estimate["variants"][:2]
    # A single question in a batch is not written to the prompt cache, so its input is a little cheaper still.
    assert in_batch["max_usd"] == pytest.approx(requested["max_usd"] / 2, rel=1e-3)
    assert in_batch["max_usd"] <= requested["max_usd"] / 2


async def test_a_dry_run_prices_each_item_and_starts_nothing(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path, upstream.url) as server, server.client() as client:
        response = await client.post("/jobs", json=MAP | {"dry_run": True})
        assert (await client.get("/jobs")).json() == {"jobs": []}
    estimate = response.json()
    assert (response.status_code, estimate["count"], estimate["counted"]) == (200, 2, 2)
    assert [each["name"] for each in estimate["items"]] == MAP["items"]
    assert not message_requests(upstream)


@pytest.mark.parametrize("fields", [MAP, {"message": "Long"}], ids=["items", "question"])
async def test_a_job_above_the_limit_is_started_with_the_token_of_its_refusal(
    upstream: Simulator, tmp_path: Path, fields: dict[str, Any]
) -> None:
    async with http_server_thread(tmp_path, upstream.url, confirm_above_usd=0.05) as server, server.client() as client:
        refused = await client.post("/jobs", json=fields)
        error = refused.json()["error"]
        assert (refused.status_code, error["kind"]) == (402, "confirmation")
        assert error["highest_usd"] > 0.05
        other = await client.post("/jobs", json=fields | {"model": "opus", "approval": error["approval"]})
        assert other.status_code == 402
        assert not message_requests(upstream)
        assert (await run_job(client, **fields, approval=error["approval"]))["state"] == "complete"
        again = await client.post("/jobs", json=fields | {"approval": error["approval"]})
        assert again.status_code == 402
        assert (await client.post("/jobs", json=fields | {"max_usd": 0.04})).status_code == 202


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        (MAP | {"thread": "t_0", "tools": ["web"]}, 400, "A job with items does not take thread, tools."),
        (MAP | {"table": {"name": "a.csv", "data": "data:,a"}}, 400, "send one of them"),
        ({"message": "x", "table": {"name": "a.txt", "data": "data:,a"}}, 400, '"a.txt" is not a table'),
        ({"message": "x", "table": {"name": "a.csv", "data": "a,b"}}, 400, "data: URI"),
        ({"message": "x", "table": {"name": "a.csv", "data": "data:;base64,%"}}, 400, "not base64"),
        ({"message": "x", "table": {"name": "a.csv", "data": "data:,a%FF"}}, 400, "not UTF-8"),
        ({"message": "x", "table": {"name": "a.csv", "data": "data:,a"}}, 400, "There are no items."),
        (MAP | {"message": ""}, 400, "The prompt is empty"),
        (MAP | {"output": "out.jsonl"}, 422, "output"),
        ({"message": "x", "batch": True, "thread": "t_0123456789abcdef"}, 404, "thread"),
    ],
)
async def test_an_impossible_job_is_rejected_before_anything_is_sent(
    upstream: Simulator, tmp_path: Path, fields: dict[str, Any], status: int, words: str
) -> None:
    async with http_server_thread(tmp_path, upstream.url) as server, server.client() as client:
        response = await client.post("/jobs", json=fields)
        assert (await client.get("/jobs")).json() == {"jobs": []}
    assert response.status_code == status, response.text
    assert words in response.json()["error"]["text"]
    assert not message_requests(upstream)


async def test_a_job_belongs_to_the_user_who_started_it(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path, upstream.url, users=("ada", "bob")) as server:
        async with server.client("ada") as ada:
            job = await run_job(ada, **MAP)
        async with server.client("bob") as bob:
            assert (await bob.get(f"/jobs/{job['id']}")).status_code == 404
            assert (await run_job(bob, **MAP))["id"] != job["id"]
        async with server.client() as nobody:
            assert (await nobody.post("/jobs", json=MAP)).status_code == 401
