from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import BlobResourceContents, ResourceLink, TextContent, TextResourceContents

from mcp_server_claude.call_types import ToolUse
from mcp_server_claude.engine import output_file_downloads
from mcp_server_claude.server.progress_notifications import StatusLine
from mcp_server_claude.simulator import Pace, Simulator, directive
from support.mcp_session import (
    ALL_TRANSPORTS,
    ProgressUpdate,
    connect,
    failure_meta,
    http_server_in_loop,
    text_blocks,
    usage_meta,
)
from support.recorded_streams import sse_bytes
from support.scripted_upstream import scripted_upstream

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.types import CallToolResult

    from support.mcp_session import McpSession, ProtocolMode, Transport

pytestmark = pytest.mark.anyio

FILES = "mcp-server-claude/files"
RUN = "Please compute the mean"
MODEL = "sonnet"
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def bodies(api: Simulator) -> list[dict[str, object]]:
    return [cast("dict[str, object]", record.body) for record in api.requests if record.path == "/v1/messages"]


def turns(body: dict[str, object]) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", body["messages"])


def kinds(turn: dict[str, object]) -> list[str]:
    return [str(block["type"]) for block in cast("list[dict[str, object]]", turn["content"])]


def tools(body: dict[str, object]) -> dict[str, dict[str, object]]:
    return {str(tool["name"]): tool for tool in cast("list[dict[str, object]]", body.get("tools", []))}


def links(result: CallToolResult) -> list[ResourceLink]:
    return [block for block in result.content if isinstance(block, ResourceLink)]


def output_files(result: CallToolResult) -> list[dict[str, object]]:
    assert result.meta is not None
    return cast("list[dict[str, object]]", result.meta.get(FILES, []))


# --------------------------------------------------------------------- an answer


async def test_code_runs_and_its_output_is_not_part_of_the_answer(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        updates: list[ProgressUpdate] = []
        result = await session.ask(RUN, tools=["code"], model=MODEL, updates=updates, style="text")
        (body,) = bodies(upstream)
        complete = upstream.answer_to(
            {"model": MODEL, "max_tokens": 4000, "messages": [{"role": "user", "content": RUN}]}
        )
    assert text_blocks(result)[0] == complete == "".join(each.message or "" for each in updates)
    assert "container" not in body
    assert usage_meta(result)["complete"]
    assert not links(result)
    assert result.meta is not None
    assert FILES not in result.meta


@pytest.mark.parametrize(
    ("model", "version"), [("opus", "20260521"), ("haiku", "20260521"), ("claude-haiku-4-5", "20250825")]
)
async def test_the_newest_tool_version_of_the_model_is_offered(
    upstream: Simulator, tmp_path: Path, model: str, version: str
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        await session.ask("Tea?", tools=["code"], model=model)
        (body,) = bodies(upstream)
        assert body["tools"] == [{"type": f"code_execution_{version}", "name": "code_execution"}]
        assert "code" not in upstream.requests[-1].headers.get("anthropic-beta", "")


async def test_with_code_the_web_is_searched_directly_and_not_through_code(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        await session.ask("Tea?", tools=["web", "code"], model="opus")
        await session.ask("Tea?", tools=["web"], model="opus")
        both, web = map(tools, bodies(upstream))
    assert both["web_search"]["allowed_callers"] == both["web_fetch"]["allowed_callers"] == ["direct"]
    assert "allowed_callers" not in web["web_search"]
    assert "code_execution" not in web


def message(*blocks: dict[str, object]) -> bytes:
    """A stream that holds these blocks."""
    usage: dict[str, object] = {"input_tokens": 7, "output_tokens": 1}
    head: dict[str, object] = {"id": "m", "type": "message", "role": "assistant", "model": "claude-haiku-5-5"}
    start: dict[str, object] = {"type": "message_start", "message": head | {"content": list[str](), "usage": usage}}
    return sse_bytes(
        start,
        *({"type": "content_block_start", "index": n, "content_block": block} for n, block in enumerate(blocks)),
        *({"type": "content_block_stop", "index": n} for n in range(len(blocks))),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
    )


def used(name: str, identity: str) -> dict[str, object]:
    return {"type": "server_tool_use", "id": identity, "name": name, "input": {}}


def ran(kind: str, identity: str) -> dict[str, object]:
    result = {"type": f"{kind}_result", "stdout": "5", "stderr": "", "return_code": 0, "content": list[str]()}
    return {"type": f"{kind}_tool_result", "tool_use_id": identity, "content": result}


async def test_text_before_and_after_code_are_paragraphs_of_their_own(tmp_path: Path) -> None:
    stream = message(
        {"type": "text", "text": "I'll compute it."},
        used("bash_code_execution", "s1"),
        ran("bash_code_execution", "s1"),
        {"type": "text", "text": "The mean is 5"},
        {"type": "text", "text": ".5."},
    )
    async with (
        scripted_upstream(stream) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url, models_wait_s=0) as session,
    ):
        result = await session.ask("Mean?", tools=["code"], model="claude-haiku-5-5")
    assert text_blocks(result)[0] == "I'll compute it.\n\nThe mean is 5.5."


@pytest.mark.parametrize(
    "blocks",
    [
        (used("code_execution", "s1"), ran("code_execution", "s1")),
        (
            used("code_execution", "s1"),
            used("web_search", "s2") | {"caller": {"type": "code_execution_20260120", "tool_id": "s1"}},
            {"type": "web_search_tool_result", "tool_use_id": "s2", "content": list[str]()},
            ran("code_execution", "s1"),
        ),
    ],
)
async def test_code_that_filters_web_results_adds_no_tool_to_the_thread(
    tmp_path: Path, blocks: tuple[dict[str, object], ...]
) -> None:
    async with (
        scripted_upstream(message(*blocks, {"type": "text", "text": "Found."})) as upstream,
        connect("memory", "auto", tmp_path / "data", base_url=upstream.url, models_wait_s=0) as session,
    ):
        first = await session.ask("Tea?", tools=["web"], model="claude-haiku-5-5")
        await session.ask("And now?", thread=usage_meta(first)["thread"])
        head, _, raw = upstream.requests[-1].partition(b"\r\n\r\n")
    body = cast("dict[str, object]", json.loads(raw))
    assert head.startswith(b"POST /v1/messages")
    assert list(tools(body)) == ["web_search", "web_fetch"]
    assert body["tool_choice"] == {"type": "none"}
    assert [{**block} for block in cast("list[dict[str, object]]", turns(body)[1]["content"])][:-1] == list(blocks)


async def test_the_status_says_that_files_are_edited(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        updates: list[ProgressUpdate] = []
        await session.ask(RUN, tools=["code"], model=MODEL, updates=updates, style="status")
    assert any(" · editing " in (each.message or "") for each in updates)


@pytest.mark.parametrize("tool", ["bash_code_execution", "code_execution"])
def test_the_status_says_that_code_is_run(tool: str) -> None:
    line = StatusLine()
    line.update_stage(ToolUse(tool, "python x.py"))
    assert "running code: python x.py" in line.render()


async def test_a_turn_that_pauses_while_code_runs_continues_in_the_same_container(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        prompt = f"{RUN} {directive(stop='pause_turn', makes='mean.csv')}"
        result = await session.ask(prompt, tools=["code"], model=MODEL)
        first, second = bodies(upstream)
        complete = upstream.answer_to(
            {"model": MODEL, "max_tokens": 4000, "messages": [{"role": "user", "content": RUN}]}
        )
    assert "container" not in first
    assert str(second["container"]).startswith("container_")
    assert kinds(turns(second)[-1])[-2:] == ["server_tool_use", "text"]
    assert texts_only(result)[0] == complete
    assert [file["name"] for file in output_files(result)] == ["mean.csv"]
    assert usage_meta(result)["complete"]


def texts_only(result: CallToolResult) -> list[str]:
    return [block.text for block in result.content if isinstance(block, TextContent)]


async def test_a_file_tool_while_code_runs_continues_in_the_same_container(
    upstream: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "tea.md").write_text("jasmine", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "project")
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        prompt = f"{RUN} {directive(stop='tool_use', tool='list', code='on')}"
        result = await session.ask(prompt, tools=["code", "read"], model=MODEL, max_usd=1)
        first, second = bodies(upstream)
    assert not result.is_error
    assert "container" not in first
    assert str(second["container"]).startswith("container_")
    assert kinds(turns(second)[-2])[-2:] == ["server_tool_use", "tool_use"]


async def test_a_stream_that_breaks_after_code_is_incomplete_and_lists_its_files(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        prompt = f"{RUN} {directive(makes='mean.csv', fault='drop', at=60)}"
        result = await session.ask(prompt, tools=["code"], model=MODEL)
    assert texts_only(result)[-1].startswith("INCOMPLETE:")
    assert [link.name for link in links(result)] == ["mean.csv"]
    assert len(bodies(upstream)) == 1


# --------------------------------------------------------------------- files


@pytest.mark.parametrize(("where", "mode"), ALL_TRANSPORTS)
async def test_files_that_code_created_are_linked_and_readable_as_resources(
    where: Transport, mode: ProtocolMode, upstream: Simulator, tmp_path: Path
) -> None:
    async with connect(where, mode, tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask(f"{RUN} {directive(makes='mean.csv,plot.png')}", tools=["code"], model=MODEL)
        table, picture = links(result)
        assert [block.type for block in result.content] == ["text", "text", "resource_link", "resource_link"]
        assert (table.name, table.mime_type) == ("mean.csv", "text/csv")
        assert (picture.name, picture.mime_type) == ("plot.png", "image/png")
        assert [file["uri"] for file in output_files(result)] == [table.uri, picture.uri]
        (text,) = (await session.client.read_resource(table.uri)).contents
        (image,) = (await session.client.read_resource(picture.uri)).contents
    assert isinstance(text, TextResourceContents)
    assert (text.text, text.mime_type) == ("made,mean.csv\n1,2\n", "text/csv")
    assert table.size == len(text.text)
    assert isinstance(image, BlobResourceContents)
    assert image.mime_type == "image/png"
    assert image.blob.startswith("iVBORw0KGgo")


async def read_error(session: McpSession, uri: str) -> str:
    with pytest.raises(MCPError) as error:
        await session.client.read_resource(uri)
    return str(error.value)


async def test_a_missing_or_expired_file_is_reported(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask(f"{RUN} {directive(makes='mean.csv')}", tools=["code"], model=MODEL)
        (link,) = links(result)
        assert "There is no file with that id" in await read_error(session, "claude://files/f_0000000000000000")
        with closing(sqlite3.connect(tmp_path / "data" / "store.db")) as connection:
            ((file_id,),) = connection.execute("select file_id from produced").fetchall()
        upstream.expire(file_id)
        assert "no longer at Anthropic" in await read_error(session, link.uri)


@pytest.mark.parametrize("prefix", ["claude://files/", ""], ids=["address", "id"])
async def test_files_that_code_created_are_sent_with_a_later_prompt(
    upstream: Simulator, tmp_path: Path, prefix: str
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        made = await session.ask(f"{RUN} {directive(makes='mean.csv,plot.png,text.pdf')}", tools=["code"], model=MODEL)
        table, picture, paper = [f"{prefix}{link.uri.rpartition('/')[2]}" for link in links(made)]
        await session.ask("What is in them?", files=[table, picture, paper], model=MODEL)
        await session.ask("What is in it?", files=[f"{paper}#document"], model=MODEL)
        both, again = [cast("list[dict[str, Any]]", turns(body)[0]["content"]) for body in bodies(upstream)[-2:]]
    with closing(sqlite3.connect(tmp_path / "data" / "store.db")) as connection:
        ids = dict(connection.execute("select name, file_id from produced"))
    text, image, document, _ = both
    assert text["text"] == '<file index="1" path="mean.csv">\nmade,mean.csv\n1,2\n</file>'
    assert (image["type"], image["source"]) == ("image", {"type": "file", "file_id": ids["plot.png"]})
    assert (document["type"], document["source"]) == ("document", {"type": "file", "file_id": ids["text.pdf"]})
    assert again[0]["source"] == document["source"]


async def test_a_resource_that_is_no_file_cannot_be_sent_as_one(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        unknown = await session.ask("Tea?", files=["claude://files/f_0000000000000000"])
        call = await session.ask("Tea?", files=["claude://calls/c_0000000000000000"])
    assert "There is no file with that id" in text_blocks(unknown)[0]
    assert "Of the resources of this server only files (claude://files/f_…) can be sent" in text_blocks(call)[0]
    assert not bodies(upstream)


async def test_a_file_is_visible_only_to_its_user(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_in_loop(data_dir=tmp_path / "data", base_url=upstream.url) as server:
        ada, bob = await server.token("ada"), await server.token("bob")
        async with server.client(ada) as client:
            prompt = {"prompt": f"{RUN} {directive(makes='mean.csv')}", "tools": ["code"], "model": MODEL}
            (link,) = links(await client.call_tool("claude_ask", prompt))
            assert (await client.read_resource(link.uri)).contents
        async with server.client(bob) as client:
            with pytest.raises(MCPError, match="There is no file with that id"):
                await client.read_resource(link.uri)
            refused = await client.call_tool("claude_ask", {"prompt": "Tea?", "files": [link.uri], "model": MODEL})
            assert "There is no file with that id" in text_blocks(refused)[0]


async def test_a_file_that_is_too_large_for_a_message_is_not_fetched(
    upstream: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_server_claude.server.resources.MAX_FILE_BYTES", 10)
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask(f"{RUN} {directive(makes='mean.csv')}", tools=["code"], model=MODEL)
        (link,) = links(result)
        assert "at most 10 are fetched" in await read_error(session, link.uri)
        with closing(sqlite3.connect(tmp_path / "data" / "store.db")) as connection, connection:
            connection.execute("update produced set bytes = null")
        assert "larger than 10 bytes" in await read_error(session, link.uri)


async def test_a_file_without_a_readable_name_is_still_listed(
    tmp_path: Path, upstream: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_file_downloads, "METADATA_TIMEOUT_S", 0)
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask(f"{RUN} {directive(makes='mean.csv')}", tools=["code"], model=MODEL)
        (link,) = links(result)
        assert link.name.startswith("file_")
        (content,) = (await session.client.read_resource(link.uri)).contents
    assert isinstance(content, BlobResourceContents)


async def test_files_alone_are_an_answer(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask(f"{RUN} {directive(makes='mean.csv', tokens=0)}", tools=["code"], model=MODEL)
    assert not result.is_error
    assert texts_only(result)[0] == output_file_downloads.NO_TEXT_NOTE
    assert [link.name for link in links(result)] == ["mean.csv"]


async def test_a_call_that_is_read_again_lists_its_files(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask(f"{RUN} {directive(makes='mean.csv')}", tools=["code"], model=MODEL)
        again = await session.client.call_tool("claude_jobs", {"id": usage_meta(result)["call_id"]})
    assert links(again) == links(result)
    assert output_files(again) == output_files(result)


async def test_files_of_old_calls_are_deleted_at_anthropic_and_in_the_store(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        for name in ("old.csv", "new.csv"):
            await session.ask(f"{RUN} {directive(makes=name)}", tools=["code"], model=MODEL)
    with closing(sqlite3.connect(tmp_path / "data" / "store.db")) as connection, connection:
        connection.execute("update produced set created_at = created_at - 31 * 86400 where name = 'old.csv'")
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        while not [record for record in upstream.requests if record.method == "DELETE"]:
            await upstream.wait_for_requests(len(upstream.requests) + 1)
        await upstream.wait_until_idle()
        await session.info()
    with closing(sqlite3.connect(tmp_path / "data" / "store.db")) as connection:
        assert connection.execute("select name from produced").fetchall() == [("new.csv",)]


# --------------------------------------------------------------------- threads


async def test_a_follow_up_uses_the_container_and_keeps_the_blocks_of_the_code(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        first = await session.ask(RUN, tools=["code"], model=MODEL)
        second = await session.ask("And now?", thread=usage_meta(first)["thread"])
        third = await session.ask("And then?", thread=usage_meta(first)["thread"])
        one, two, three = bodies(upstream)
    assert not second.is_error
    assert not third.is_error
    assert "container" not in one
    assert str(two["container"]).startswith("container_")
    assert three["container"] == two["container"]
    assert list(tools(two)) == ["code_execution"]
    answered = turns(two)[1]
    assert [kind for kind in kinds(answered) if kind not in {"thinking", "text"}] == [
        "server_tool_use",
        "text_editor_code_execution_tool_result",
        "server_tool_use",
        "bash_code_execution_tool_result",
    ]


async def test_an_expired_container_is_replaced(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        first = await session.ask(RUN, tools=["code"], model=MODEL)
        await session.ask("And now?", thread=usage_meta(first)["thread"])
        expired = str(bodies(upstream)[-1]["container"])
        upstream.expire(expired)
        result = await session.ask(f"{RUN} again.", thread=usage_meta(first)["thread"])
        *_, refusing, second = bodies(upstream)
        assert not result.is_error
        assert refusing["container"] == expired
        assert "container" not in second
        await session.ask("And then?", thread=usage_meta(first)["thread"])
        assert bodies(upstream)[-1]["container"] != expired


async def test_code_that_was_cut_off_leaves_only_its_text_in_the_thread(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        prompt = f"{RUN} {directive(stop='max_tokens', late='on')}"
        first = await session.ask(prompt, tools=["code"], model=MODEL)
        second = await session.ask("Go on.", thread=usage_meta(first)["thread"])
        assert not second.is_error
        assert turns(bodies(upstream)[-1])[1]["content"] == [{"type": "text", "text": text_blocks(first)[0]}]


# --------------------------------------------------------------------- admission, prices


@pytest.mark.parametrize("model", ["claude-plain-2", "plain"])
async def test_a_model_without_code_execution_is_rejected_before_anything_is_sent(tmp_path: Path, model: str) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), models="plain") as api,
        connect("memory", "auto", tmp_path / "data", base_url=api.url, model="plain") as session,
    ):
        result = await session.ask(RUN, tools=["code"], model=model)
        assert failure_meta(result)["kind"] == "unsupported"
        assert text_blocks(result)[0] == "claude-plain-2 cannot run code; its only tool is read."
        web = await session.ask(RUN, tools=["web"], model="thinker")
        assert text_blocks(web)[0] == "claude-thinker-1 cannot search the web; its tools are code, read."
        assert not bodies(api)


async def test_code_and_a_schema_work_together_where_the_model_has_structured_outputs(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        result = await session.ask(RUN, tools=["code"], schema=PERSON)
    assert not result.is_error
    assert set(json.loads(text_blocks(result)[0])) == {"name"}
    (body,) = bodies(upstream)
    assert "format" in cast("dict[str, object]", body["output_config"])
    assert "code_execution" in str(body["tools"])


async def test_tools_and_a_schema_are_rejected_together_where_the_schema_is_a_forced_tool(tmp_path: Path) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), models="plain") as api,
        connect("memory", "auto", tmp_path / "data", base_url=api.url) as session,
    ):
        result = await session.ask("A person.", tools=["read"], schema=PERSON, model="claude-plain-2")
        assert text_blocks(result)[0].startswith("schema and tools cannot be combined with claude-plain-2")
        assert failure_meta(result)["kind"] == "unsupported"
        assert not bodies(api)


async def test_a_dry_run_prices_a_call_with_code_and_sends_nothing(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url) as session:
        first = await session.ask(RUN, tools=["code"], model=MODEL)
        before = len(bodies(upstream))
        result = await session.ask("More?", tools=["code"], thread=usage_meta(first)["thread"], dry_run=True)
        assert "Nothing was generated" in text_blocks(result)[0]
        assert len(bodies(upstream)) == before


async def test_code_works_within_a_cost_limit(upstream: Simulator, tmp_path: Path) -> None:
    async with connect("memory", "auto", tmp_path / "data", base_url=upstream.url, budget_usd_per_day=5) as session:
        first = await session.ask(RUN, tools=["code"], model=MODEL)
        second = await session.ask(f"{RUN} again", thread=usage_meta(first)["thread"])
        assert usage_meta(second)["complete"]
        assert cast("float", usage_meta(second)["cost_usd"]) > 0
