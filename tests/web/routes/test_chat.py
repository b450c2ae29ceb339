"""`/chat` over a real socket: what a program, a browser or `curl` sees of an answer, and of what goes wrong."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from base64 import b64encode
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from mcp_server_claude.calls import answer_feed
from mcp_server_claude.calls.ask_request import FILES_ONLY_PROMPT
from mcp_server_claude.simulator import Simulator, directive
from mcp_server_claude.web.routes import server_sent_events
from support.chat_reader import ask_chat, read_until
from support.http_server import (
    RunningHttpServer,
    event_text,
    events_named,
    http_server_process,
    http_server_thread,
    read_events,
)
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    import httpx2

    from support.http_server import ServerSentEvent

pytestmark = pytest.mark.anyio
STALLED = directive(tokens=400, fault="stall", at=90)
"""An answer that stops after 90 characters, and never ends by itself."""
JSON = {"Content-Type": "application/json"}
PNG = b64encode(
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89\0\0\0\nIDATx\x9cc\0\1\0\0\5\0\1\r\n-\xb4"
    b"\0\0\0\0IEND\xaeB`\x82"
).decode()
PDF = b64encode(b"%PDF-1.4\n1 0 obj <</Type /Page>> endobj\ntrailer <<>>\n%%EOF").decode()


@pytest.fixture(scope="module")
async def here(api: Simulator, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHttpServer]:
    """A server without users, that many tests share."""
    async with http_server_thread(tmp_path_factory.mktemp("here"), api.url, max_retries=0) as server:
        yield server


@pytest.fixture
async def client(here: RunningHttpServer, api: Simulator) -> AsyncIterator[httpx2.AsyncClient]:
    api.reset()
    with anyio.fail_after(60):
        async with here.client() as client:
            yield client


async def again(client: httpx2.AsyncClient, call: str, last: str = "") -> list[ServerSentEvent]:
    """Read a call, from an event on."""
    headers = {"Last-Event-ID": last} if last else {}
    async with client.stream("GET", f"/chat/{call}", headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        return [each async for each in read_events(response)]


async def error_of(client: httpx2.AsyncClient, status: int, **fields: object) -> dict[str, Any]:
    """The error with which a question is answered."""
    response = await client.post("/chat", json=fields)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    error = response.json()["error"]
    assert set(error) >= {"text", "class", "kind", "retryable", "retry_after_s", "request_id"}
    return error


def normal(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def call_of(events: Iterable[ServerSentEvent]) -> str:
    return next(each.json["call"] for each in events if each.name == "start")


def final_event(events: list[ServerSentEvent]) -> dict[str, Any]:
    """How it ended: once, and as the last event."""
    assert [each.name for each in events].count("done") == 1
    assert events[-1].name == "done"
    return events[-1].json


# --------------------------------------------------------------------- what is seen


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_curl_prints_the_words_as_they_arrive(here: RunningHttpServer, api: Simulator) -> None:
    api.reset()
    ask = ["curl", "-sN", "-X", "POST", f"{here.url}/chat", "-H", "Content-Type: application/json", "-d"]
    process = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond
        [*ask, '{"message": "Tell me. [[sim: tokens=2000 think=0 pace=100 chars=4]]"}'], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    printed = ""
    with anyio.fail_after(60), process.stdout as pipe:
        while printed.count("\n\n") < 10:
            printed += (await anyio.to_thread.run_sync(pipe.readline)).decode()
        assert message_requests(api)[0].end == "open"
        call = printed.removeprefix("id: ").partition(":")[0]
        async with here.client() as client:
            await client.post(f"/chat/{call}/stop", headers=JSON)
        printed += (await anyio.to_thread.run_sync(pipe.read)).decode()
    assert process.wait() == 0
    blocks = [block.split("\n") for block in printed.removesuffix("\n\n").split("\n\n")]
    words = [[line.removeprefix("data: ") for line in block[1:]] for block in blocks if block[1].startswith("data: ")]
    assert message_requests(api)[0].text.startswith("".join("\n".join(lines) for lines in words))
    assert len(words) > 5
    assert blocks[0][1] == "event: start"
    assert blocks[-1][1] == "event: done"


async def test_the_stream_passes_through_caches_and_proxies_unchanged(client: httpx2.AsyncClient) -> None:
    async with client.stream("POST", "/chat", json={"message": "What is tea?"}) as response:
        events = [each async for each in read_events(response)]
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    start = events[0].json
    assert start == {"call": call_of(events), "thread": start["thread"], "model": "claude-sonnet-5-5"}
    assert response.headers["call-id"] == start["call"]
    assert response.headers["thread-id"] == start["thread"]


@pytest.mark.parametrize("chars", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    "text",
    [
        "one\ntwo\n\n\nfive",
        "\n\nblank lines first",
        "blank lines last\n\n\n",
        "windows\r\nlines\r\n\r\nend\r\n",
        "old\rmac\r\rlines\r",
        "mixed\r\r\n\n\r\n\rend",
        "x\r",
        "  leading and trailing  \n  spaces  ",
        "data: not a field\nevent: done\nid: 7\n: not a comment",
        "😀🇩🇪👩‍👩‍👧‍👦 split é\u0301 \u2028 \u2029 \x0b \x0c \x85 \ufeff",
        "<script>alert(1)</script>\n\n[DONE]",
    ],
)
async def test_text_arrives_exactly_except_for_its_line_endings(
    client: httpx2.AsyncClient, text: str, chars: int
) -> None:
    events = await ask_chat(client, directive(text=text, chars=chars, split="surrogates"))
    assert event_text(events) == normal(text)
    assert events[-1].offset == len(text)
    assert [each.offset for each in events] == sorted(each.offset for each in events)
    assert {each.id.partition(":")[0] for each in events} == {call_of(events)}
    assert final_event(events) == {
        "complete": True,
        "incomplete": "",
        "stop_reason": "end_turn",
        "notes": [],
        "files": [],
    }


async def test_a_long_answer_arrives_without_a_loss(client: httpx2.AsyncClient) -> None:
    text = "".join(f"{n}. a line of a very long answer, ähnlich wie diese 😀\n" for n in range(4000))
    assert len(text) > 200_000
    events = await ask_chat(client, directive(text=text))
    assert event_text(events) == text
    assert event_text(await again(client, call_of(events))) == text


async def test_the_usage_precedes_the_end(client: httpx2.AsyncClient, api: Simulator) -> None:
    events = await ask_chat(client, "What is tea?")
    (usage,) = events_named(events, "usage")
    assert events[-2].name == "usage"
    assert usage["call_id"] == call_of(events)
    assert usage["complete"] is True
    assert usage["cost_usd"] > 0
    assert usage["output_tokens"] == message_requests(api)[0].output_tokens
    assert usage["request_ids"] == [message_requests(api)[0].request_id]


async def test_statuses_are_sent(client: httpx2.AsyncClient) -> None:
    events = await ask_chat(client, "Search the web for tea. [[sim: think=30]]", tools=["web"], model="opus")
    states = [each["state"] for each in events_named(events, "status")]
    assert states[0] == "reading"
    assert {"thinking", "searching", "writing"} <= set(states)
    assert any("searching" in each["text"] for each in events_named(events, "status"))


async def test_comments_keep_a_silent_connection_open(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_feed, "KEEP_ALIVE_INTERVAL_S", 0.05)
    raw = b""
    async with client.stream("POST", "/chat", json={"message": STALLED}) as response:
        async for chunk in response.aiter_raw():
            raw += chunk
            if raw.endswith(b": still there\n\n"):
                await client.post(f"/chat/{response.headers['call-id']}/stop", headers=JSON)
    assert raw.startswith(b"id: c_")


# --------------------------------------------------------------------- every end


@pytest.mark.parametrize(
    ("prompt", "kind", "incomplete", "stop_reason"),
    [
        ("Tell me.", "", "", "end_turn"),
        ("Tell me. [[sim: stop=max_tokens]]", "", "it reached max_tokens", "max_tokens"),
        ("Tell me. [[sim: stop=refusal]]", "refusal", "", "refusal"),
        (directive(fault="drop", at=40), "", "The connection", None),
        (directive(fault="error", at=40, type="api_error"), "", "The Messages API had an internal error", None),
        (directive(fault="eof", at=0), "truncated", "", None),
    ],
)
async def test_done_ends_every_stream(
    client: httpx2.AsyncClient, prompt: str, kind: str, incomplete: str, stop_reason: str | None
) -> None:
    events = await ask_chat(client, prompt)
    ended = final_event(events)
    assert ended["complete"] is (stop_reason == "end_turn")
    assert ended["incomplete"].startswith(incomplete)
    assert bool(ended["incomplete"]) is bool(incomplete)
    assert ended["stop_reason"] == stop_reason
    assert [each["kind"] for each in events_named(events, "error")] == ([kind] if kind else [])
    assert len(events_named(events, "usage")) == 1
    once_more = await again(client, call_of(events))
    assert [each.name for each in once_more[-2:]] == [each.name for each in events[-2:]]
    assert event_text(once_more) == event_text(events)


async def test_an_overload_is_reported_to_the_reader_and_retried(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with http_server_thread(tmp_path, api.url) as here, here.client() as client:
        events = await ask_chat(client, directive(status=529, retry_after=0.3, times=2))
    waits = [each for each in events_named(events, "status") if each["state"] == "waiting"]
    assert len(waits) == 2
    assert all("overloaded, trying again in" in each["text"] for each in waits)
    assert all(isinstance(each["until"], float) for each in waits)
    assert final_event(events)["complete"] is True
    assert events_named(events, "usage")[0]["retries"] == 2


async def test_an_immediate_failure_is_a_plain_error_with_a_status(client: httpx2.AsyncClient) -> None:
    for status, kind, fields in (
        (400, "invalid_request", {"message": directive(status=400)}),
        (400, "invalid_request", {"message": " \n"}),
        (400, "invalid_request", {"message": "x", "schema": {"type": 3}}),
        (404, "unknown_model", {"message": "x", "model": "gpt"}),
        (404, "not_found", {"message": "x", "thread": "t_0000000000000000"}),
        (413, "too_large", {"message": directive(status=413)}),
        (429, "rate_limit", {"message": directive(status=429)}),
        (500, "authentication", {"message": directive(status=401)}),
        (503, "overloaded", {"message": directive(status=529)}),
        (402, "max_usd", {"message": "x", "max_usd": 0.0000001}),
    ):
        assert (await error_of(client, status, **fields))["kind"] == kind


async def test_an_invalid_request_is_rejected_with_the_field_and_never_its_value(client: httpx2.AsyncClient) -> None:
    secret = "s3cr3t-value"
    for fields, words in (
        ({}, "message is required."),
        ({"mesage": secret}, "There is no field named 'mesage'."),
        ({"message": "x", "batch": True}, "Batch is a field of POST /jobs, which answers in the background."),
        ({"message": "x", "items": ["a"]}, "Items is a field of POST /jobs, which answers in the background."),
        ({"message": "x", "max_tokens": secret}, "max_tokens"),
        ({"message": "x", "max_tokens": -1}, "max_tokens"),
        ({"message": "x", "effort": secret}, "effort must be one of low, medium, high, xhigh or max."),
        ({"message": "x", "tools": [secret]}, "tools.0 must be one of web, "),
        ({"message": "x", "tools": "web"}, "tools must be a list."),
        ({"message": "x", "files": [{"name": secret}]}, "files.0.data is required."),
        ({"message": "x", "files": [7]}, "files.0 must be a string or an object with name and data."),
        ({"message": [secret]}, "message must be a valid string."),
        ({"message": "x", "schema": secret}, "schema must be a JSON object."),
    ):
        error = await error_of(client, 422, **fields)
        assert words in error["text"]
        assert secret not in str(error)
    deep = b'{"message": "x", "schema": %s1%s}'
    for status, body in (
        (422, b"{"),
        (422, b""),
        (422, b"[]"),
        (422, b'"x"'),
        (422, b'{"message": "x", "max_usd": NaN}'),
        (400, deep % (b'{"a":' * 100_000, b"}" * 100_000)),
        (400, b'{"message": "\xff"}'),
        (400, b'{"message": "x", "max_tokens": %s}' % (b"9" * 10_000)),
    ):
        response = await client.post("/chat", content=body, headers=JSON)
        assert response.status_code == status
        assert response.json()["error"]["kind"] == "invalid_request"
    # Whether JSON of 900 levels is read depends on the version of Python.
    response = await client.post("/chat", content=deep % (b'{"a":' * 900, b"}" * 900), headers=JSON)
    assert response.status_code in {400, 422}
    assert response.json()["error"]["kind"] == "invalid_request"


async def test_a_body_that_is_too_large_is_rejected(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with http_server_thread(tmp_path, api.url, max_body_bytes=2048) as here, here.client() as client:
        error = await error_of(client, 413, message="x" * 3000)
        assert error["kind"] == "too_large"
        assert final_event(await ask_chat(client, "x" * 1500))["complete"] is True


# --------------------------------------------------------------------- coming back


async def test_a_reader_can_resume_after_every_event(client: httpx2.AsyncClient) -> None:
    text = "one\r\ntwo\r\rthree 😀\n\nfour\r\n" * 3
    events = await ask_chat(client, directive(text=text, chars=2, split="surrogates"))
    complete = normal(text)
    for n, each in enumerate(events):
        rest = await again(client, call_of(events), each.id)
        assert rest[0].name == "start"
        assert rest[0].id == each.id
        assert event_text(events[: n + 1]) + event_text(rest) == complete
        assert final_event(rest)["complete"] is True
        assert rest[-1].offset == len(text)


async def test_a_reader_that_reconnects_misses_nothing(client: httpx2.AsyncClient, api: Simulator) -> None:
    ask = {"message": directive(tokens=200, think=0, pace=200, chars=4)}
    async with client.stream("POST", "/chat", json=ask) as response:
        events = await read_until(read_events(response), 60)
    while events[-1].name != "done":
        async with client.stream(
            "GET", f"/chat/{call_of(events)}", headers={"Last-Event-ID": events[-1].id}
        ) as response:
            async for each in read_events(response):
                events.append(each)
                if not each.name and each.offset % 3 == 0:
                    break
    assert event_text(events) == message_requests(api)[0].text
    assert message_requests(api)[0].end == "complete"
    assert len(message_requests(api)) == 1


async def test_two_concurrent_readers_both_get_everything(client: httpx2.AsyncClient, api: Simulator) -> None:
    both: list[list[ServerSentEvent]] = []

    async def read(call: str) -> None:
        both.append(await again(client, call))

    ask = {"message": directive(tokens=150, think=0, pace=200, chars=4)}
    async with client.stream("POST", "/chat", json=ask) as response:
        events = read_events(response)
        first = await anext(events)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(read, first.json["call"])
            both.append([first, *[each async for each in events]])
    assert [event_text(each) for each in both] == [message_requests(api)[0].text] * 3
    assert all(final_event(each)["complete"] for each in both)


async def test_a_stalled_reader_delays_no_other(
    here: RunningHttpServer, client: httpx2.AsyncClient, api: Simulator
) -> None:
    body = json.dumps({"message": "[[sim: fault=huge]]"}).encode()
    address = here.url.removeprefix("http://")
    host, _, port = address.partition(":")
    async with await anyio.connect_tcp(host, int(port)) as stuck:
        await stuck.send(
            b"POST /chat HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % (address.encode(), len(body))
            + body
        )
        head = await stuck.receive(2000)
        found = re.search(rb"call-id: (c_\w+)", head)
        assert found is not None
        events = await again(client, found[1].decode())
    assert len(event_text(events)) > 4_000_000
    assert event_text(events) == normal(message_requests(api)[0].text)
    assert final_event(events)["complete"] is True


async def test_an_invalid_event_id_is_rejected(client: httpx2.AsyncClient) -> None:
    call = call_of(await ask_chat(client, "What is tea?"))
    for last in (
        "7",
        f"{call}:",
        f"{call}:-1",
        f"{call}:x",
        "c_0000000000000000:0",
        f"{call}:0:0",
        f"{call}:{'9' * 16}",
    ):
        response = await client.get(f"/chat/{call}", headers={"Last-Event-ID": last})
        assert response.status_code == 400
        assert response.json()["error"]["kind"] == "invalid_request"
    response = await client.get(f"/chat/{call}", headers={"Last-Event-ID": f"{call}:99999999"})
    assert response.status_code == 400
    assert response.json()["error"]["kind"] == "truncated"


async def test_a_reloaded_page_finds_the_running_call_in_its_thread(client: httpx2.AsyncClient, api: Simulator) -> None:
    async with client.stream("POST", "/chat", json={"message": f"Tell me. {STALLED}"}) as response:
        events = await read_until(read_events(response), 80)
        start = events[0].json
        page = (await client.get(f"/threads/{start['thread']}.json")).json()
        assert [each["role"] for each in page["messages"]] == ["user", "assistant"]
        assert page["messages"][1]["running"] is True
        assert page["messages"][1]["call"] == start["call"]
        async with client.stream("GET", f"/chat/{start['call']}") as second:
            assert message_requests(api)[0].text.startswith(event_text(await read_until(read_events(second), 80)))
        await client.post(f"/chat/{start['call']}/stop", headers=JSON)


# --------------------------------------------------------------------- stopping, and leaving


async def test_a_stop_closes_the_upstream_and_ends_the_stream(client: httpx2.AsyncClient, api: Simulator) -> None:
    async with client.stream("POST", "/chat", json={"message": STALLED}) as response:
        events = read_events(response)
        so_far = await read_until(events, 80)
        stopped = await client.post(f"/chat/{call_of(so_far)}/stop", headers=JSON)
        assert (stopped.status_code, stopped.json()) == (200, {"stopping": True})
        so_far += [each async for each in events]
    await api.wait_until_idle()
    assert message_requests(api)[0].end == "disconnected"
    assert final_event(so_far)["incomplete"] == "it was stopped. Ask again for the rest."
    assert events_named(so_far, "usage")[0]["estimated"] is True
    stopped = await client.post(f"/chat/{call_of(so_far)}/stop", headers=JSON)
    assert stopped.json() == {"stopping": False}


async def test_without_a_grace_period_a_reader_that_leaves_ends_the_call_at_once(
    api: Simulator, tmp_path: Path
) -> None:
    api.reset()
    async with http_server_thread(tmp_path, api.url, reader_grace_s=0) as here, here.client() as client:
        for accept in ("text/event-stream", "text/plain"):
            ask = client.stream("POST", "/chat", json={"message": STALLED}, headers={"Accept": accept})
            async with ask as response:
                async for _ in response.aiter_raw():
                    break
            await api.wait_until_idle()
        assert [each.end for each in message_requests(api)] == ["disconnected"] * 2


async def test_a_reader_that_leaves_before_the_first_text_ends_the_call(
    api: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_feed, "START_TIMEOUT_S", 0.1)
    api.reset()
    async with http_server_thread(tmp_path, api.url, reader_grace_s=0) as here, here.client() as client:
        with anyio.move_on_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask_chat, client, directive(fault="stall", at="headers"))
                await api.wait_for_requests(2)  # the list of models, and the message
                tasks.cancel_scope.cancel()
        with anyio.fail_after(30):
            await api.wait_until_idle()
        assert message_requests(api)[0].end == "disconnected"


async def test_a_call_continues_within_the_grace_period(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with http_server_thread(tmp_path, api.url, reader_grace_s=60) as here, here.client() as client:
        async with client.stream(
            "POST", "/chat", json={"message": directive(tokens=100, think=0, pace=200)}
        ) as response:
            events = await read_until(read_events(response), 10)
        await api.wait_until_idle()
        assert message_requests(api)[0].end == "complete"
        rest = await again(client, call_of(events), events[-1].id)
        assert event_text(events) + event_text(rest) == message_requests(api)[0].text


async def test_a_shutdown_is_reported_to_the_reader_and_the_answer_can_be_read_from_the_next_server(
    api: Simulator, tmp_path: Path
) -> None:
    api.reset()
    async with (
        http_server_thread(tmp_path, api.url, drain_s=0.2) as here,
        here.client() as client,
        client.stream("POST", "/chat", json={"message": STALLED}) as response,
    ):
        events = read_events(response)
        so_far = await read_until(events, 80)
        here.stop()
        so_far += [each async for each in events]
    (error,) = events_named(so_far, "error")
    assert (error["kind"], error["retryable"]) == ("shutdown", True)
    assert final_event(so_far)["complete"] is False
    async with http_server_thread(tmp_path, api.url) as here, here.client() as client:
        complete = await again(client, call_of(so_far))
        assert event_text(complete) == message_requests(api)[0].text
        (error,) = events_named(complete, "error")
        assert (error["kind"], error["retryable"]) == ("interrupted", True)
        assert event_text(await again(client, call_of(so_far), so_far[-1].id)) == ""


# --------------------------------------------------------------------- other processes


async def test_another_process_reads_and_stops_the_call(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    data = tmp_path / "data"
    async with (
        http_server_process(data, api.url, name="one") as one,
        http_server_process(data, api.url, name="two") as two,
    ):
        async with one.client() as here, two.client() as there:
            ask = {"message": directive(tokens=2000, think=0, pace=200, chars=4)}
            async with here.stream("POST", "/chat", json=ask) as response:
                events = read_events(response)
                so_far = await read_until(events, 40)
                call = call_of(so_far)
                async with there.stream("GET", f"/chat/{call}", headers={"Last-Event-ID": so_far[-1].id}) as second:
                    theirs = read_events(second)
                    rest = await read_until(theirs, so_far[-1].offset + 100)
                    assert (await there.post(f"/chat/{call}/stop", headers=JSON)).json() == {"stopping": True}
                    rest += [each async for each in theirs]
                ours = so_far + [each async for each in events]
        await api.wait_until_idle()
        assert message_requests(api)[0].end == "disconnected"
        assert event_text(so_far) + event_text(rest) == event_text(ours)
        assert message_requests(api)[0].text.startswith(event_text(ours))
        assert final_event(rest)["complete"] is final_event(ours)["complete"] is False


async def test_after_a_crash_the_saved_text_can_be_read_with_how_to_continue(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    data = tmp_path / "data"
    async with (
        http_server_process(data, api.url, real=True) as first,
        first.client() as client,
        client.stream("POST", "/chat", json={"message": f"Tell me. {STALLED}"}) as response,
    ):
        so_far = await read_until(read_events(response), 80)
        while not _is_saved(data, call_of(so_far)):
            await anyio.lowlevel.checkpoint()
        first.kill()
    with closing(sqlite3.connect(data / "store.db")) as connection:
        connection.execute("update worker set lease_until = 0")  # half a minute later
        connection.commit()
    async with http_server_process(data, api.url) as second, second.client() as client:
        events = await again(client, call_of(so_far))
        assert event_text(events) == message_requests(api)[0].text
        assert event_text(events).startswith(event_text(so_far))
        (error,) = events_named(events, "error")
        assert error["kind"] == "interrupted"
        assert "ask for the rest in the same thread" in error["text"]
        assert final_event(events)["complete"] is False
        more = await ask_chat(client, "Go on.", thread=so_far[0].json["thread"])
        assert final_event(more)["complete"] is True


def _is_saved(data: Path, call: str) -> bool:
    with closing(sqlite3.connect(data / "store.db")) as connection:
        (chars,) = connection.execute("select coalesce(max(chars), 0) from call where id = ?", (call,)).fetchone()
    return chars >= 90


async def test_a_server_that_shuts_down_lets_answers_finish(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with http_server_process(tmp_path / "data", api.url, drain_s=30) as server, server.client() as client:
        ask = {"message": directive(tokens=100, think=0, pace=100)}
        async with client.stream("POST", "/chat", json=ask) as response:
            events = read_events(response)
            so_far = await read_until(events, 10)
            ended: list[int] = []

            async def end() -> None:
                ended.append(await server.terminate())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(end)
                so_far += [each async for each in events]
        assert final_event(so_far)["complete"] is True
        assert event_text(so_far) == message_requests(api)[0].text


# --------------------------------------------------------------------- what is asked


async def test_plain_text_is_the_answer_and_nothing_else(client: httpx2.AsyncClient) -> None:
    text = "one\r\ntwo\n\n  😀 three\r"
    bare = {"Accept": "text/plain"}
    response = await client.post("/chat", json={"message": directive(text=text, chars=1)}, headers=bare)
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.content == text.encode()
    call = response.headers["call-id"]
    last = {"Last-Event-ID": f"{call}:4"}
    assert (await client.get(f"/chat/{call}", headers=bare | last)).content == text[4:].encode()
    response = await client.post("/chat", json={"message": "Tell me. [[sim: stop=max_tokens]]"}, headers=bare)
    assert re.search(r"\n\n\[INCOMPLETE: it reached max_tokens .*\]\n$", response.text)
    response = await client.post("/chat", json={"message": directive(fault="eof", at=0)}, headers=bare)
    assert re.fullmatch(r"\n\n\[The connection ended before .*\]\n", response.text)
    assert (await client.post("/chat", json={"message": ""}, headers=bare)).status_code == 400


@pytest.mark.parametrize(
    ("accept", "bare"),
    [
        ("", False),
        ("*/*", False),
        ("text/event-stream", False),
        ("text/plain", True),
        ("text/*", False),
        ("application/json, text/plain, */*", False),
        ("text/plain;q=0.5, text/event-stream", False),
        ("text/plain; q=0.9, */*; q=0.1", True),
        ("TEXT/PLAIN", True),
        ("text/plain;q=nonsense", False),
        ("application/json", False),
        (";;,,;q=", False),
    ],
)
def test_plain_text_is_sent_to_clients_that_prefer_it(accept: str, *, bare: bool) -> None:
    assert server_sent_events.prefers_plain_text(accept) is bare


async def test_a_question_is_sent_unchanged(client: httpx2.AsyncClient, api: Simulator) -> None:
    fields = {"model": "opus", "effort": "low", "system": "Be brief.", "max_tokens": 77}
    events = await ask_chat(client, "Größe and 😀?", **fields)
    body: Any = message_requests(api)[0].body
    assert body["model"] == "claude-opus-5-5"
    assert body["max_tokens"] == 77
    assert body["output_config"]["effort"] == "low"
    assert "Be brief." in str(body["system"])
    assert body["messages"] == [{"role": "user", "content": "Größe and 😀?"}]
    assert events[0].json["model"] == "claude-opus-5-5"


async def test_lone_surrogates_are_replaced_wherever_they_occur(client: httpx2.AsyncClient, api: Simulator) -> None:
    complete = (
        rb'{"message": "\ud83d\ude00 \ud83d", "system": "\udc00", "files": [{"name": "\udc00.txt", "data": "%s"}]}'
    )
    body = complete.replace(b"%s", b"data:;base64," + b64encode(b"tea"))
    response = await client.post("/chat", content=body, headers=JSON)
    assert response.status_code == 200
    assert "😀 \ufffd" in str(message_requests(api)[0].body)
    assert 'path=\\"\ufffd.txt' in json.dumps(message_requests(api)[0].body, ensure_ascii=False)
    response = await client.post("/chat", content=rb'{"message": "x", "\ud83d": 1}', headers=JSON)
    assert response.status_code == 422
    assert response.json()["error"]["kind"] == "invalid_request"


async def test_a_thread_is_continued(client: httpx2.AsyncClient, api: Simulator) -> None:
    first = await ask_chat(client, "What is tea?")
    thread = first[0].json["thread"]
    assert thread.startswith("t_")
    second = await ask_chat(client, "And coffee?", thread=f" {thread} ")
    assert second[0].json["thread"] == thread
    body: Any = message_requests(api)[1].body
    assert [each["role"] for each in body["messages"]] == ["user", "assistant", "user"]
    assert [each["type"] for each in body["messages"][1]["content"]] == ["thinking", "text"]
    assert body["messages"][1]["content"][1]["text"] == event_text(first)
    assert events_named(second, "usage")[0]["thread"] == thread


async def test_an_answer_follows_a_schema(client: httpx2.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    events = await ask_chat(client, "Name a tea.", schema=schema)
    assert [each.name for each in events].count("") == 1
    assert next(each for each in events if not each.name).json.keys() == {"name"}
    assert final_event(events)["complete"] is True


async def test_files_are_sent_as_data_with_their_names(client: httpx2.AsyncClient, api: Simulator) -> None:
    code = b64encode(b"let tea = 1;\n").decode()
    files = [
        {"name": 'Vertrag "A"; ö/1.pdf', "data": f"data:application/pdf;base64,{PDF}"},
        {"name": "photo.png", "data": f"data:image/png;base64,{PNG}"},
        {"name": "tea.ts", "data": f"data:video/mp2t;base64,{code}"},
        {"name": "", "data": f"data:text/plain;base64,{code}"},
        f"data:text/plain;base64,{b64encode(b'bare').decode()}",
        "https://example.com/paper.pdf",
    ]
    events = await ask_chat(client, "", files=files)
    assert final_event(events)["complete"] is True
    body: Any = message_requests(api)[0].body
    blocks = body["messages"][0]["content"]
    assert [each["type"] for each in blocks] == [
        "document",
        "text",
        "image",
        "text",
        "text",
        "text",
        "document",
        "text",
    ]
    assert blocks[0]["title"] == 'Vertrag "A"; ö/1.pdf'
    assert 'path="photo.png"' in blocks[1]["text"]
    assert 'path="tea.ts"' in blocks[3]["text"]
    assert "let tea = 1;" in blocks[3]["text"]
    assert 'path="data:text/plain"' in blocks[4]["text"]
    assert blocks[-1]["text"] == FILES_ONLY_PROMPT
    page = (await client.get(f"/threads/{events[0].json['thread']}.json")).json()
    names = [each["name"] for each in page["messages"][0]["files"]]
    assert names[:3] == ['Vertrag "A"; ö/1.pdf', "photo.png", "tea.ts"]


async def test_files_of_the_server_are_not_readable_over_http(client: httpx2.AsyncClient, api: Simulator) -> None:
    for name in ("/etc/passwd", "README.md", "../x", "~/.ssh/id_rsa", "**/*", "file:///etc/passwd", "http://a.b/c"):
        assert (await error_of(client, 400, message="x", files=[name]))["class"] == "request_error"
        assert (await error_of(client, 400, message="x", files=[{"name": "x", "data": name}]))[
            "class"
        ] == "request_error"
    assert not message_requests(api)


async def test_files_of_configured_directories_are_readable_over_http(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "tea.txt").write_text("tea is hot")
    async with (
        http_server_thread(tmp_path / "data", api.url, roots=[tmp_path / "root"]) as here,
        here.client() as client,
    ):
        events = await ask_chat(client, "x", files=["*.txt"])
        assert final_event(events)["notes"] == ['"*.txt" matched 1 file.']
        assert "tea is hot" in str(message_requests(api)[0].body)
        await error_of(client, 400, message="x", files=["/etc/passwd"])


# --------------------------------------------------------------------- users


async def test_a_call_of_another_user_is_not_found_on_any_route(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with (
        http_server_thread(tmp_path, api.url, users=["ada", "bob"]) as here,
        here.client("ada") as ada,
        here.client("bob") as bob,
        here.client() as nobody,
        ada.stream("POST", "/chat", json={"message": STALLED}) as response,
    ):
        so_far = await read_until(read_events(response), 80)
        call, thread = so_far[0].json["call"], so_far[0].json["thread"]
        for other, status in ((bob, 404), (nobody, 401)):
            for asking in (
                other.get(f"/chat/{call}"),
                other.get(f"/chat/{call}", headers={"Last-Event-ID": f"{call}:0"}),
                other.post(f"/chat/{call}/stop", headers=JSON),
                other.post("/chat", json={"message": "x", "thread": thread}),
                other.get(f"/threads/{thread}.json"),
            ):
                answer = await asking
                assert answer.status_code == status
                assert answer.json()["error"]["class"] == "request_error"
        unknown = (await bob.get("/chat/c_0000000000000000")).json()
        assert (await bob.get(f"/chat/{call}")).json() == unknown
        assert message_requests(api)[0].end == "open"
        assert (await ada.post(f"/chat/{call}/stop", headers=JSON)).json() == {"stopping": True}
        assert event_text(await again(ada, call)) == message_requests(api)[0].text
        assert (await bob.get(f"/chat/{call}")).json() == unknown


async def test_an_exceeded_rate_or_concurrency_limit_names_the_time_to_retry(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    limits: dict[str, object] = {"user_calls_per_minute": 2, "user_concurrent": 1}
    async with (
        http_server_thread(tmp_path, api.url, users=["ada", "bob"], **limits) as here,
        here.client("ada") as ada,
        here.client("bob") as bob,
    ):
        async with ada.stream("POST", "/chat", json={"message": STALLED}) as response:
            events = read_events(response)
            call = call_of(await read_until(events, 80))
            assert (await error_of(ada, 429, message="x"))["kind"] == "user_concurrency"
            assert final_event(await ask_chat(bob, "x"))["complete"] is True
            await ada.post(f"/chat/{call}/stop", headers=JSON)
            assert [each.name async for each in events][-1] == "done"
        await ask_chat(ada, "x")
        late = await ada.post("/chat", json={"message": "x"})
        assert late.status_code == 429
        assert late.json()["error"]["kind"] == "user_rate_limit"
        assert 0 < int(late.headers["retry-after"]) <= 60
    assert len(message_requests(api)) == 3


async def test_a_spent_budget_is_reported_with_the_time_of_its_reset(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with (
        http_server_thread(tmp_path, api.url, users=["ada"], user_usd_per_day=0.0001) as here,
        here.client("ada") as ada,
    ):
        answer = await ada.post("/chat", json={"message": "x"})
        error = answer.json()["error"]
    assert answer.status_code == 402
    assert error["kind"] == "budget"
    assert error["text"].startswith("Your budget of ")
    assert re.search(r"It resets at \d{4}-\d\d-\d\d 00:00 UTC\.", error["text"])
    assert int(answer.headers["retry-after"]) > 0
    assert not message_requests(api)


# --------------------------------------------------------------------- documented


async def test_the_documentation_describes_what_exists(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    answers = paths["/chat"]["post"]["responses"]
    assert {"200", "400", "402", "404", "413", "422", "429", "500", "503"} <= set(answers)
    example: str = answers["200"]["content"]["text/event-stream"]["example"]
    events = await ask_chat(client, "What is tea?")
    assert set(re.findall(r"^event: (.+)$", example, re.MULTILINE)) == {each.name for each in events if each.name}
    pieces = re.findall(r"^id: \w+:(\d+)\n((?:data: .*\n)+)", example, re.MULTILINE)
    text = ""
    for offset, lines in pieces:
        text += "\n".join(re.findall(r"^data: (.*)$", lines, re.MULTILINE))
        assert len(text) == int(offset)
    assert text == answers["200"]["content"]["text/plain"]["example"]
    for name in ("get", "post"):
        path = "/chat/{call_id}" if name == "get" else "/chat/{call_id}/stop"
        assert "404" in paths[path][name]["responses"]
