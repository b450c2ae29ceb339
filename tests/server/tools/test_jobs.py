from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import ResourceLink, TextContent, TextResourceContents

from mcp_server_claude.simulator import Simulator, directive
from support.mcp_session import FAILURE_META, USAGE_META, McpSession, connect, failure_meta, text_blocks, usage_meta
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from mcp.types import CallToolResult


pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_database")]
STALLED = directive(tokens=400, fault="stall", at=90)
"""An answer that stops after 90 characters, and never ends by itself."""


@pytest.fixture
async def session(api: Simulator, tmp_path: Path) -> AsyncIterator[McpSession]:
    api.reset()
    async with open_session(api, tmp_path) as session:
        yield session


def open_session(
    api: Simulator, tmp_path: Path, client_name: str = "test", **fields: Any
) -> AbstractAsyncContextManager[McpSession]:
    return connect("memory", "auto", tmp_path / "data", client_name=client_name, base_url=api.url, **fields)


async def jobs(session: McpSession, **arguments: object) -> CallToolResult:
    return await session.client.call_tool("claude_jobs", dict(arguments))


async def list_calls(session: McpSession) -> list[dict[str, str]]:
    """The rows of the list of calls."""
    table = next(block for block in text_blocks(await jobs(session)) if "characters" in block.split("\n")[0])
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.split("\n")]
    return [dict(zip(head, row, strict=True)) for row in rows]


def call_id(result: CallToolResult) -> str:
    return str(usage_meta(result)["call_id"])


async def resource(session: McpSession, identity: str) -> str:
    (contents,) = (await session.client.read_resource(f"claude://calls/{identity}")).contents
    assert isinstance(contents, TextResourceContents)
    assert contents.mime_type == "text/plain"
    return contents.text


async def cancel_call(session: McpSession, api: Simulator, prompt: str) -> None:
    """A call that its client cancels once it has received text."""
    reported = anyio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert progress >= 0
        assert total is None
        if message:
            reported.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                lambda: session.client.call_tool("claude_ask", {"prompt": prompt}, progress_callback=on_progress)
            )
            await reported.wait()
            tasks.cancel_scope.cancel()
        await api.wait_until_idle()


async def read_until(session: McpSession, identity: str, text: str) -> None:
    """Wait until a running call has written this."""
    while text_blocks(await jobs(session, id=identity, wait=0.05))[0] != text:
        pass


# --------------------------------------------------------------------- the list


async def test_an_empty_list_is_reported_as_such(session: McpSession) -> None:
    assert text_blocks(await jobs(session)) == ["No calls yet."]


async def test_calls_that_lost_their_reader_are_listed_first_with_their_opening_words(
    session: McpSession, api: Simulator
) -> None:
    await cancel_call(session, api, f"Which tea | is best?\n{STALLED}")
    await session.ask("What is coffee? [[sim: stop=max_tokens]]")
    await session.ask("What is cocoa?")
    await session.ask(f"What is milk? {directive(status=400)}")
    rows = await list_calls(session)
    assert [row["state"] for row in rows] == ["cancelled", "failed", "complete", "incomplete"]
    assert [" ".join(row["prompt"].split()[:3]) for row in rows] == [
        "Which tea /",
        "What is milk?",
        "What is cocoa?",
        "What is coffee?",
    ]
    assert all(re.fullmatch(r"c_[0-9a-f]{24}", row["id"]) for row in rows)
    assert rows[0]["characters"] == "90"
    assert {row["model"] for row in rows} == {"claude-sonnet-5-5"}


async def test_the_list_has_the_ten_newest(session: McpSession) -> None:
    prompt = [call_id(await session.ask(f"number {n}")) for n in range(12)]
    assert [row["id"] for row in await list_calls(session)] == prompt[:1:-1]


# --------------------------------------------------------------------- one call


async def test_a_finished_call_can_be_read_again_with_its_usage(session: McpSession, api: Simulator) -> None:
    first_result = await session.ask("What is tea?")
    result = await jobs(session, id=call_id(first_result))
    answer, line = text_blocks(result)
    assert answer == text_blocks(first_result)[0] == message_requests(api)[0].text
    assert line == f"[{call_id(first_result)} · complete · {len(answer)} characters]"
    assert usage_meta(result) == usage_meta(first_result)
    assert len(message_requests(api)) == 1


async def test_a_cancelled_call_can_be_read_up_to_its_end_and_is_marked_as_cancelled(
    session: McpSession, api: Simulator
) -> None:
    await cancel_call(session, api, f"Tell me. {STALLED}")
    (row,) = await list_calls(session)
    result = await jobs(session, id=row["id"])
    answer, line, last = text_blocks(result)
    (request,) = message_requests(api)
    assert answer == request.text
    assert "· cancelled ·" in line
    assert last == "INCOMPLETE: The call was cancelled."
    used = usage_meta(result)
    assert (used["complete"], used["estimated"]) == (False, True)
    assert used["input_tokens"] == request.input_tokens
    assert cast("int", used["output_tokens"]) >= 90 // 4
    assert cast("float", used["cost_usd"]) > 0
    assert used["request_ids"] == [request.request_id]


async def test_an_incomplete_and_a_failed_call_report_the_reason(session: McpSession) -> None:
    cut = await session.ask("Tell me. [[sim: stop=max_tokens]]")
    assert text_blocks(await jobs(session, id=call_id(cut)))[-1] == text_blocks(cut)[-1]
    failed = await session.ask(directive(status=400))
    (none, _, why) = text_blocks(await jobs(session, id=call_id(failed)))
    assert none == "(no text)"
    assert why.startswith("INCOMPLETE: The Messages API refused the request.")


async def test_an_unknown_id_is_an_error_that_points_to_the_list(session: McpSession) -> None:
    for arguments in ({"id": "c_0000000000000000"}, {"id": "nonsense", "wait": 5}, {"id": "c_1", "cancel": True}):
        result = await jobs(session, **arguments)
        assert failure_meta(result)["kind"] == "not_found"
        assert text_blocks(result) == ["There is no call with that id. claude_jobs without an id lists the latest."]


async def test_cancel_without_an_id_stops_nothing(session: McpSession) -> None:
    result = await jobs(session, cancel=True)
    assert failure_meta(result)["class"] == "request_error"
    assert text_blocks(result) == ["cancel needs the id of a job or a call."]


# --------------------------------------------------------------------- while it runs


async def test_a_running_call_can_be_read_awaited_and_stopped(session: McpSession, api: Simulator) -> None:
    """Another conversation looks at a call, while the one that asked waits for its answer."""
    reported = anyio.Event()
    stopped: list[CallToolResult] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert progress >= 0
        assert total is None
        if message:
            reported.set()

    async def ask() -> None:
        arguments = {"prompt": f"Tell me. {STALLED}"}
        stopped.append(await session.client.call_tool("claude_ask", arguments, progress_callback=on_progress))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await reported.wait()
            (row,) = await list_calls(session)
            assert row["state"] == "running"
            answer, line, last = text_blocks(await jobs(session, id=row["id"], wait=0.01))
            assert answer == message_requests(api)[0].text
            assert "· running ·" in line
            assert last == "INCOMPLETE: it is still being written. Ask again with wait=50."
            shown = await jobs(session, id=row["id"], cancel=True)
            assert "· cancelled ·" in text_blocks(shown)[1]
            assert text_blocks(shown)[0] == answer
        await api.wait_until_idle()
    assert message_requests(api)[0].end == "disconnected"
    (result,) = stopped
    first, _, last = text_blocks(result)
    assert first == message_requests(api)[0].text
    assert last.startswith("INCOMPLETE: ")
    assert "it was stopped" in last
    assert usage_meta(result)["estimated"] is True
    again = await jobs(session, id=call_id(result), cancel=True)
    assert text_blocks(again)[0] == first
    assert usage_meta(again) == usage_meta(result)


async def test_a_call_stopped_before_its_first_text_is_an_error_with_its_id(
    session: McpSession, api: Simulator
) -> None:
    stopped: list[CallToolResult] = []

    async def ask() -> None:
        stopped.append(await session.ask(f"Tell me. {directive(fault='stall', at='headers')}"))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await api.wait_for_requests(2)  # the list of models, and the message
            (row,) = await list_calls(session)
            await jobs(session, id=row["id"], cancel=True)
    (result,) = stopped
    assert failure_meta(result)["kind"] == "cancelled"
    assert call_id(result) in text_blocks(result)[0]
    assert text_blocks(await jobs(session, id=call_id(result)))[0] == "(no text)"


async def test_waiting_for_a_call_returns_when_it_has_ended(api: Simulator, tmp_path: Path) -> None:
    async with open_session(api, tmp_path, detach_after_s=0.1) as session:
        first = await session.ask("Tell me. [[sim: tokens=60 think=0 pace=60]]")
        with anyio.fail_after(30):
            result = await jobs(session, id=call_id(first), wait=3600)
    assert "· complete ·" in text_blocks(result)[1]
    assert usage_meta(result)["complete"] is True


# --------------------------------------------------------------------- detached


async def test_a_call_that_outlasts_its_client_returns_its_id_and_the_rest_later(
    api: Simulator, tmp_path: Path
) -> None:
    api.reset()
    async with open_session(api, tmp_path, detach_after_s=0.4) as session:
        with anyio.fail_after(30):
            first = await session.ask("Tell me. [[sim: tokens=80 think=0 pace=80 chars=4]]")
            result = await jobs(session, id=call_id(first), wait=60)
    (request,) = message_requests(api)
    head, footer, last = text_blocks(first)
    assert not first.is_error
    assert re.fullmatch(
        r'INCOMPLETE: it is still being written\. claude_jobs\(id="j_[0-9a-f]{24}", wait=50\) returns the rest\.', last
    )
    assert (usage_meta(first)["complete"], usage_meta(first)["estimated"]) == (False, True)
    assert call_id(first) in footer
    complete = text_blocks(result)[0]
    assert complete == request.text
    assert complete.startswith(head)
    assert len(head) < len(complete)
    assert request.end == "complete"
    assert usage_meta(result)["complete"] is True


async def test_a_detached_call_can_be_stopped(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with open_session(api, tmp_path, detach_after_s=0.2) as session:
        with anyio.fail_after(30):
            first = await session.ask(f"Tell me. {STALLED}")
            await api.wait_for_requests(2)  # the list of models, and the message
            result = await jobs(session, id=call_id(first), cancel=True)
            await api.wait_until_idle()
            assert text_blocks(result)[0].startswith(text_blocks(first)[0])
            assert "· cancelled ·" in text_blocks(result)[1]
    assert message_requests(api)[0].end == "disconnected"


async def test_a_detached_call_that_fails_cancels_no_other_and_reports_the_reason(
    api: Simulator, tmp_path: Path
) -> None:
    api.reset()
    async with open_session(api, tmp_path, detach_after_s=0.1, bytes_timeout_s=0.5, max_retries=0) as session:
        with anyio.fail_after(30):
            first = await session.ask(f"Tell me. {directive(fault='stall', at='headers')}")
            result = await jobs(session, id=call_id(first), wait=60)
            after = await session.ask("x [[sim: tokens=3]]")
    assert "Nothing came from the Messages API" in text_blocks(result)[-1]
    assert "· failed ·" in text_blocks(result)[1]
    assert not after.is_error


async def test_an_answer_in_time_is_not_detached(api: Simulator, tmp_path: Path) -> None:
    async with open_session(api, tmp_path, detach_after_s=60) as session:
        assert usage_meta(await session.ask("x"))["complete"] is True
        failed = await session.ask(directive(status=400))
    assert failure_meta(failed)["kind"] == "invalid_request"


async def test_a_client_that_cancels_before_its_call_is_detached_stops_it(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with open_session(api, tmp_path, detach_after_s=3600) as session:
        await cancel_call(session, api, f"Tell me. {STALLED}")
        (row,) = await list_calls(session)
    assert row["state"] == "cancelled"
    assert message_requests(api)[0].end == "disconnected"


# --------------------------------------------------------------------- as a resource


async def test_the_text_of_a_call_is_a_resource_even_if_it_was_cut(session: McpSession, api: Simulator) -> None:
    complete = await session.ask("What is tea?")
    assert await resource(session, call_id(complete)) == text_blocks(complete)[0]
    cut = await session.ask("Tell me. [[sim: stop=max_tokens]]")
    assert await resource(session, call_id(cut)) == f"{text_blocks(cut)[0]}\n\n{text_blocks(cut)[-1]}"
    await cancel_call(session, api, f"Tell me. {STALLED}")
    (row, *_) = await list_calls(session)
    assert (await resource(session, row["id"])).endswith("\n\nINCOMPLETE: The call was cancelled.")
    templates = (await session.client.list_resource_templates()).resource_templates
    assert "claude://calls/{id}{?offset,limit}" in {template.uri_template for template in templates}


async def test_a_resource_of_an_unknown_call_is_not_found(session: McpSession) -> None:
    with pytest.raises(MCPError, match="There is no call with that id"):
        await resource(session, "c_0000000000000000")


async def test_an_answer_above_the_limit_of_a_result_is_cut_and_linked(api: Simulator, tmp_path: Path) -> None:
    text = "\n".join(f"{n}. a line of a very long answer" for n in range(200))
    for name in ("claude-code", "cursor"):
        async with open_session(api, tmp_path, client_name=name, inline_chars=2000) as session:
            result = await session.ask(directive(text=text))
            head, link, note, *rest = result.content
            assert isinstance(head, TextContent)
            assert isinstance(link, ResourceLink)
            assert isinstance(note, TextContent)
            assert len(rest) == 1
            assert text.startswith(head.text)
            assert head.text.endswith("\n")
            assert 1000 < len(head.text) <= 2000
            assert str(link.uri) == f"claude://calls/{call_id(result)}"
            assert note.text.startswith(
                f"CUT: {len(head.text):,} of {len(text):,} characters; {link.uri} has the whole"
            )
            assert await resource(session, call_id(result)) == text
            assert usage_meta(result)["complete"] is True


# --------------------------------------------------------------------- what is kept


async def test_with_no_retention_the_text_is_deleted_after_delivery_and_the_usage_stays(
    api: Simulator, tmp_path: Path
) -> None:
    async with open_session(api, tmp_path, retention_days=0) as session:
        answer = await session.ask("What is tea?")
        result = await jobs(session, id=call_id(answer))
        (row,) = await list_calls(session)
        (line,) = session.ledger_rows()
    assert text_blocks(result)[0] == "(the text is no longer kept)"
    assert usage_meta(result) == usage_meta(answer)
    assert row["prompt"] == ""
    assert line["output_tokens"] == usage_meta(answer)["output_tokens"]
    for name in ("store.db", "store.db-wal"):
        path = tmp_path / "data" / name
        assert not path.exists() or b"What is tea?" not in path.read_bytes() or name.endswith("-wal")


async def test_with_no_retention_a_delivered_failure_leaves_no_text_of_the_question(
    api: Simulator, tmp_path: Path
) -> None:
    async with open_session(api, tmp_path, retention_days=0) as session:
        assert (await session.ask("[[sim: tea=1]] What is tea?")).is_error  # the API's refusal quotes it
        (row,) = await list_calls(session)
        text = text_blocks(await jobs(session, id=row["id"]))
    assert row["prompt"] == ""
    assert text[-1] == "INCOMPLETE: The text was deleted."


async def test_with_no_retention_text_that_was_cut_for_the_client_can_still_be_read_in_full(
    api: Simulator, tmp_path: Path
) -> None:
    text = "a long line of text\n" * 200
    async with open_session(api, tmp_path, "claude-code", inline_chars=1000, retention_days=0) as session:
        result = await session.ask(directive(text=text))
        assert await resource(session, call_id(result)) == text


async def test_with_no_retention_a_cancelled_call_is_kept_until_it_is_read(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with open_session(api, tmp_path, retention_days=0) as session:
        await cancel_call(session, api, f"Tell me. {STALLED}")
        (row,) = await list_calls(session)
        assert text_blocks(await jobs(session, id=row["id"]))[0] == message_requests(api)[0].text


async def test_with_no_retention_a_detached_call_is_complete_when_it_is_fetched(api: Simulator, tmp_path: Path) -> None:
    """What its first result held was its beginning, not its answer."""
    api.reset()
    async with open_session(api, tmp_path, detach_after_s=0.5, retention_days=0) as session:
        with anyio.fail_after(30):
            first = await session.ask("Tell me. [[sim: tokens=90 think=0 pace=80 chars=4]]")
            result = await jobs(session, id=call_id(first), wait=60)
    assert text_blocks(result)[0] == message_requests(api)[0].text


async def test_calls_can_be_read_after_a_restart_of_the_server(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with open_session(api, tmp_path) as session:
        result = await session.ask("What is tea?")
        await cancel_call(session, api, f"Which tea? {STALLED}")
        before = await list_calls(session)
    async with open_session(api, tmp_path) as session:
        assert await list_calls(session) == before
        again = await jobs(session, id=call_id(result))
        assert text_blocks(again)[0] == text_blocks(result)[0]
        assert usage_meta(again) == usage_meta(result)
        stored = await jobs(session, id=before[0]["id"])
    assert text_blocks(stored)[0] == message_requests(api)[1].text
    assert text_blocks(stored)[-1] == "INCOMPLETE: The call was cancelled."


async def test_a_call_that_runs_when_its_server_ends_is_kept_with_its_text_so_far(
    api: Simulator, tmp_path: Path
) -> None:
    api.reset()
    async with open_session(api, tmp_path, detach_after_s=0.2) as session:
        first = await session.ask(f"Tell me. {STALLED}")
        with anyio.fail_after(30):
            await api.wait_for_requests(2)  # the list of models, and the message
            while not any(request.text for request in message_requests(api)):
                await jobs(session, id=call_id(first), wait=0.05)
            await read_until(session, call_id(first), message_requests(api)[0].text)
    async with open_session(api, tmp_path) as session:
        result = await jobs(session, id=call_id(first))
    assert text_blocks(result)[0] == message_requests(api)[0].text
    assert text_blocks(result)[-1].startswith("INCOMPLETE: ")
    assert usage_meta(result)["estimated"] is True


async def test_a_second_server_that_starts_during_a_call_closes_nothing_of_the_first(
    api: Simulator, tmp_path: Path
) -> None:
    api.reset()
    async with open_session(api, tmp_path, detach_after_s=0.2) as one, open_session(api, tmp_path) as two:
        first = await one.ask(f"Tell me. {STALLED}")
        with anyio.fail_after(30):
            while not message_requests(api):
                await jobs(one, id=call_id(first), wait=0.05)
        (table, *_) = text_blocks(await jobs(two))
        assert "| running |" in table
        assert [line["state"] for line in two.ledger_rows()] == ["open"]
        assert "· running ·" in text_blocks(await jobs(one, id=call_id(first)))[1]


async def test_a_call_can_be_stopped_from_another_server(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    async with open_session(api, tmp_path, detach_after_s=0.2) as one, open_session(api, tmp_path) as two:
        with anyio.fail_after(30):
            first = await one.ask(f"Tell me. {STALLED}")
            while not any(request.text for request in message_requests(api)):
                await jobs(one, id=call_id(first), wait=0.05)
            result = await jobs(two, id=call_id(first), cancel=True)
            await api.wait_until_idle()
        assert "· cancelled ·" in text_blocks(result)[1]
        assert text_blocks(result)[0] == message_requests(api)[0].text
    assert message_requests(api)[0].end == "disconnected"


# --------------------------------------------------------------------- every outcome names its call


async def test_the_id_of_a_call_is_in_every_footer_and_error(session: McpSession) -> None:
    for prompt in ("x", "x [[sim: stop=max_tokens]]", "x [[sim: stop=refusal]]", directive(status=400)):
        result = await session.ask(prompt)
        assert result.meta is not None
        assert USAGE_META in result.meta
        assert (FAILURE_META in result.meta) is bool(result.is_error)
        assert any(call_id(result) in text for text in text_blocks(result))
        assert text_blocks(await jobs(session, id=call_id(result)))
