"""What the chat page reads in addition to answers: who one is, the models, the threads, the files that were made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.store import thread_messages
from mcp_server_claude.store.thread_messages import Thread
from support.http_server import http_server_thread

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

    from mcp_server_claude.simulator import Simulator
    from mcp_server_claude.store import Transaction

pytestmark = pytest.mark.anyio
PDF = "data:application/pdf;name=contract.pdf;base64,JVBERi0xLjQKJSVFT0YK"


async def chat(client: httpx2.AsyncClient, **body: object) -> dict[str, dict[str, object]]:
    """The named events of an answer."""
    response = await client.post("/chat", json=body)
    assert response.status_code == 200, response.text
    named = [block.splitlines() for block in response.text.split("\n\n") if "event: " in block]
    return {lines[1].removeprefix("event: "): json.loads(lines[2].removeprefix("data:")) for lines in named}


async def test_a_user_sees_their_name_and_the_rest_of_their_budget(upstream: Simulator, tmp_path: Path) -> None:
    async with (
        http_server_thread(tmp_path / "data", upstream.url, users=("ada",), user_usd_per_day=5.0) as server,
        server.client("ada") as client,
    ):
        before = (await client.get("/me.json")).json()
        usage = (await chat(client, message="hello"))["usage"]
        after = (await client.get("/me.json")).json()
    assert (before["name"], before["role"], before["signed_in"]) == ("ada", "user", True)
    assert (before["spent_today_usd"], before["budget_usd"]) == (0, 5.0)
    assert after["spent_today_usd"] == pytest.approx(usage["cost_usd"], abs=1e-6)
    assert after["resets_at"].endswith("T00:00:00Z")
    assert before["problem"] == ""
    assert before["file_limits"] == {"files": 100, "bytes": 30_000_000, "text_chars": 4_000_000}


async def test_the_models_have_the_fields_of_the_menu(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, model="opus") as server, server.client() as client:
        models = (await client.get("/models.json")).json()
    assert [model["line"] for model in models if model["default"]] == ["opus"]
    assert all(model["name"] for model in models)
    assert any(model["efforts"] for model in models)
    assert any(not model["efforts"] for model in models)
    assert all(model["input_usd_per_mtok"] for model in models if model["line"] in {"opus", "sonnet", "haiku"})


async def test_a_thread_is_shown_with_its_files_usage_and_cost(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url) as server, server.client() as client:
        first = await chat(client, message="what does it say?", files=[PDF])
        thread = first["start"]["thread"]
        second = await chat(client, message="and [[sim: stop=max_tokens tokens=20]]", thread=thread)
        (head,) = (await client.get("/threads.json")).json()
        body = (await client.get(f"/threads/{thread}.json")).json()
    cost = sum(float(str(each["usage"]["cost_usd"])) for each in (first, second))
    assert (head["id"], head["title"]) == (thread, "what does it say?")
    assert head["cost_usd"] == body["cost_usd"] == pytest.approx(cost, abs=3e-6)
    question, answer, _, cut = body["messages"]
    assert (question["text"], question["files"][0]["name"]) == ("what does it say?", "contract.pdf")
    assert answer["usage"] == first["usage"]
    assert (answer["call"], answer["running"], answer["incomplete"]) == (first["start"]["call"], False, "")
    assert "max_tokens" in cut["incomplete"]


async def test_the_text_of_a_deleted_thread_is_gone_and_its_usage_stays(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url) as server, server.client() as client:
        begun = await chat(client, message="a secret")
        thread, call = begun["start"]["thread"], begun["start"]["call"]
        assert (await client.delete(f"/threads/{thread}")).status_code == 204
        assert (await client.delete(f"/threads/{thread}")).status_code == 404
        assert (await client.get(f"/threads/{thread}.json")).status_code == 404
        assert (await client.get("/threads.json")).json() == []
        assert (await client.get("/usage.json")).json()["totals"]["calls"] == 1
        assert server.services is not None
    assert b"a secret" not in b"".join(path.read_bytes() for path in (tmp_path / "data").glob("store.db"))
    assert call


async def test_files_that_code_created_are_listed_and_downloaded_only_by_their_user(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, users=("ada", "eve")) as server:
        async with server.client("ada") as client:
            answer = await chat(client, message="Plot it. [[sim: code=on makes=chart.png]]", tools=["code"])
            (file,) = answer["done"]["files"]  # type: ignore[misc]
            thread = (await client.get(f"/threads/{answer['start']['thread']}.json")).json()
            saved = await client.get(f"/files/{file['id']}")
        async with server.client("eve") as client:
            refused = await client.get(f"/files/{file['id']}")
    assert file["name"] == "chart.png"
    assert thread["messages"][-1]["output_files"] == [file]
    assert saved.content
    assert saved.headers["content-type"] == "application/octet-stream"
    assert saved.headers["content-disposition"] == "attachment; filename*=UTF-8''chart.png"
    assert saved.headers["x-content-type-options"] == "nosniff"
    assert refused.status_code == 404


async def test_every_thread_is_reached_page_by_page(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url) as server, server.client() as client:
        assert server.services is not None
        await (await server.services.open()).store.write(_add_threads, 220)
        pages, address = list[list[dict[str, object]]](), "/threads.json"
        while address:
            response = await client.get(address)
            pages.append(response.json())
            address = response.links.get("next", {}).get("url", "")
        malformed = await client.get("/threads.json", params={"after": "yesterday"})
    assert [len(page) for page in pages] == [100, 100, 20]
    listed = [thread for page in pages for thread in page]
    assert len({str(thread["id"]) for thread in listed}) == 220
    assert listed == sorted(listed, key=lambda thread: (-float(str(thread["updated"])), str(thread["id"])))
    assert malformed.status_code == 400


def _add_threads(tx: Transaction, count: int) -> None:
    """Insert threads, three at a time with the same time of their last question."""
    for n in range(count):
        at = 1_764_000_000.123456 + n // 3
        thread = Thread(
            id=f"t_{n:016x}", user="local", head=f"Thread {n}", system="", model="", started_at=at, touched_at=at
        )
        thread_messages.create_thread(tx, thread)


async def test_a_missing_key_is_explained_to_users_and_operators_in_their_terms(
    upstream: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    answer, refused = list[str](), list[str]()
    for users in (("ada",), ()):  # without users every caller is the operator
        folder = tmp_path / f"data-{len(users)}"
        async with (
            http_server_thread(folder, upstream.url, users=users, api_key=None) as server,
            server.client(*users) as client,
        ):
            answer.append((await client.get("/me.json")).json()["problem"])
            refused.append((await client.post("/chat", json={"message": "hi"})).json()["error"]["text"])
    assert answer == refused
    assert answer[0].endswith("Tell the operator of this server.")
    assert "MCP_CLAUDE_API_KEY in the environment of this server" in answer[1]
    assert "client" not in answer[1]
    assert not any(word in answer[0] for word in ("MCP_CLAUDE", "environment", "client"))
