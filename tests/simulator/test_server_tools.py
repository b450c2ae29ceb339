"""Code that the API runs, pages that it fetches, files that it keeps, as the SDK sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from anthropic import AsyncAnthropic, BadRequestError, NotFoundError

from mcp_server_claude.simulator import Pace, Simulator
from mcp_server_claude.simulator.json_body import as_object, as_text
from support.simulator_connection import message_request, parse_events, read_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anthropic.types import (
        CodeExecutionTool20260521Param,
        Message,
        MessageParam,
        ToolParam,
        WebFetchTool20260318Param,
    )

pytestmark = pytest.mark.anyio
MODEL = "claude-sonnet-5-5"
CODE: CodeExecutionTool20260521Param = {"type": "code_execution_20260521", "name": "code_execution"}
FETCH: WebFetchTool20260318Param = {"type": "web_fetch_20260318", "name": "web_fetch"}
LOOK: ToolParam = {"name": "look", "input_schema": {"type": "object"}}
RUN = "Please compute the mean of the numbers"


def user(prompt: str) -> MessageParam:
    return {"role": "user", "content": prompt}


async def run(client: AsyncAnthropic, *messages: MessageParam, container: str | None = None) -> Message:
    return await client.messages.create(
        model=MODEL, max_tokens=4000, messages=messages, tools=[CODE], container=container
    )


def types(message: Message) -> list[str]:
    return [block.type for block in message.content]


async def test_code_is_written_then_run_and_its_output_is_not_text_of_the_answer(client: AsyncAnthropic) -> None:
    reply = await run(client, user(RUN))

    assert types(reply) == [
        "server_tool_use",
        "text_editor_code_execution_tool_result",
        "server_tool_use",
        "bash_code_execution_tool_result",
        "text",
    ]
    write, written, bash, ran, _ = reply.content
    assert write.type == "server_tool_use"
    assert bash.type == "server_tool_use"
    assert (write.name, bash.name) == ("text_editor_code_execution", "bash_code_execution")
    assert (write.input["command"], bash.input["command"]) == ("create", "python /tmp/answer.py")
    assert written.type == "text_editor_code_execution_tool_result"
    assert written.tool_use_id == write.id
    assert ran.type == "bash_code_execution_tool_result"
    assert (ran.tool_use_id, ran.content.type) == (bash.id, "bash_code_execution_result")
    assert reply.usage.server_tool_use is not None
    assert reply.usage.server_tool_use.web_search_requests == 0


async def test_a_stream_has_the_content_of_a_complete_message_and_names_the_container_at_its_end(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    complete = await run(client, user(RUN))
    async with client.messages.stream(model=MODEL, max_tokens=4000, messages=[user(RUN)], tools=[CODE]) as stream:
        final = await stream.get_final_message()
    events = parse_events(
        await read_stream(
            simulator, message_request(RUN, tools=[{"type": "code_execution_20260521", "name": "code_execution"}])
        )
    )

    assert final.to_dict()["content"] == complete.to_dict()["content"]
    assert final.container is not None
    assert "container" not in as_object(events[0]["message"])
    (last,) = [as_object(event["delta"]) for event in events if event["type"] == "message_delta"]
    assert as_text(as_object(last["container"])["id"]).startswith("container_")


async def test_code_runs_in_a_new_container_unless_one_is_named(client: AsyncAnthropic) -> None:
    first, second = await run(client, user(RUN)), await run(client, user(RUN))
    assert first.container is not None
    assert second.container is not None
    again = await run(client, user(RUN), container=first.container.id)

    assert again.container is not None
    assert first.container.id == again.container.id != second.container.id


async def test_an_expired_container_is_rejected(client: AsyncAnthropic, simulator: Simulator) -> None:
    first = await run(client, user(RUN))
    assert first.container is not None
    simulator.expire(first.container.id)

    with pytest.raises(NotFoundError, match="has expired or does not exist"):
        await run(client, user(RUN), container=first.container.id)
    with pytest.raises(BadRequestError, match="container: Input should be a valid string"):
        await client.messages.create(
            model=MODEL, max_tokens=9, messages=[user(RUN)], tools=[CODE], container={"id": first.container.id}
        )


async def test_a_pause_leaves_code_running_whose_result_comes_first_when_the_turn_resumes(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    prompt = user(f"{RUN} [[sim: stop=pause_turn makes=mean.csv]]")
    first = await run(client, prompt)
    assert first.container is not None
    paused: MessageParam = {"role": "assistant", "content": first.content}
    with pytest.raises(BadRequestError, match="container_id is required when there are pending tool uses"):
        await run(client, prompt, paused)
    second = await run(client, prompt, paused, container=first.container.id)

    assert (first.stop_reason, second.stop_reason) == ("pause_turn", "end_turn")
    assert types(first)[-2:] == ["server_tool_use", "text"]
    assert types(second) == ["bash_code_execution_tool_result", "text"]
    assert [name for name, _ in await download_files(client, first)] == []
    assert [name for name, _ in await download_files(client, second)] == ["mean.csv"]
    texts = [record.text for record in simulator.requests if record.status == 200 and record.text]
    assert "".join(texts) == simulator.answer_to(message_request(RUN))


async def test_a_call_of_a_client_tool_leaves_code_running(client: AsyncAnthropic) -> None:
    prompt = user(f"{RUN} [[sim: stop=tool_use]]")
    first = await client.messages.create(model=MODEL, max_tokens=999, messages=[prompt], tools=[CODE, LOOK])
    *_, bash, call = first.content
    assert bash.type == "server_tool_use"
    assert call.type == "tool_use"
    assert first.container is not None
    second = await client.messages.create(
        model=MODEL,
        max_tokens=999,
        container=first.container.id,
        tools=[CODE, LOOK],
        messages=[
            prompt,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "seen"}]},
        ],
    )

    assert types(second)[0] == "bash_code_execution_tool_result"


async def test_a_finished_turn_may_not_hold_code_without_its_result(client: AsyncAnthropic) -> None:
    prompt = user(f"{RUN} [[sim: stop=max_tokens late=on]]")
    cut = await run(client, prompt)
    assert types(cut)[0] == "text"
    assert types(cut)[-1] == "server_tool_use"

    with pytest.raises(BadRequestError, match="without a corresponding `bash_code_execution_tool_result` block"):
        await run(client, prompt, {"role": "assistant", "content": cut.content}, user("Go on."))


async def test_late_tools_follow_the_text_and_a_pause_there_resumes(
    client: AsyncAnthropic, simulator: Simulator
) -> None:
    prompt = user("Tell me all [[sim: stop=pause_turn late=on]]")
    first = await client.messages.create(model=MODEL, max_tokens=4000, messages=[prompt])
    second = await client.messages.create(
        model=MODEL, max_tokens=4000, messages=[prompt, {"role": "assistant", "content": first.content}]
    )

    assert types(first) == ["text", "server_tool_use", "web_search_tool_result"]
    assert "".join(record.text for record in simulator.requests) == simulator.answer_to(message_request("Tell me all"))
    assert types(second) == ["text"]


async def test_a_page_is_fetched_cited_and_counted(client: AsyncAnthropic) -> None:
    reply = await client.messages.create(
        model=MODEL, max_tokens=4000, messages=[user("What does https://example.com/tea say?")], tools=[FETCH]
    )

    use, result, _, cited = reply.content
    assert use.type == "server_tool_use"
    assert (use.name, use.input) == ("web_fetch", {"url": "https://example.com/tea"})
    assert result.type == "web_fetch_tool_result"
    assert result.content.type == "web_fetch_result"
    assert cited.type == "text"
    assert cited.citations is not None
    (citation,) = cited.citations
    assert citation.type == "char_location"
    assert citation.document_title == result.content.content.title
    assert reply.usage.server_tool_use is not None
    assert reply.usage.server_tool_use.web_fetch_requests == 1


# --------------------------------------------------------------------- files


async def download_files(client: AsyncAnthropic, message: Message) -> list[tuple[str, bytes]]:
    """The names and contents of the files that code has made."""
    found: list[tuple[str, bytes]] = []
    for block in message.content:
        if block.type == "bash_code_execution_tool_result" and block.content.type == "bash_code_execution_result":
            for output in block.content.content:
                events = await client.files.retrieve_metadata(output.file_id)
                content = await (await client.files.download(output.file_id)).read()
                assert (events.downloadable, events.size_bytes) == (True, len(content))
                found.append((events.filename, content))
    return found


async def test_files_that_code_created_can_be_downloaded(client: AsyncAnthropic) -> None:
    reply = await run(client, user(f"{RUN} [[sim: makes=mean.csv,plot.png]]"))
    (table, rows), (picture, pixels) = await download_files(client, reply)

    assert (table, picture) == ("mean.csv", "plot.png")
    assert rows.startswith(b"made,mean.csv")
    assert pixels.startswith(b"\x89PNG")


async def test_an_upload_can_be_described_listed_and_deleted_but_not_downloaded(client: AsyncAnthropic) -> None:
    data = bytes(range(256)) * 5 + b"\r\n--x\r\n"
    file = await client.files.upload(file=("bücher/a b.bin", data, "application/x-thing"), expires_in_seconds=3600)

    assert (file.filename, file.mime_type, file.size_bytes) == ("a b.bin", "application/x-thing", len(data))
    assert file.expires_at is not None
    assert await client.files.retrieve_metadata(file.id) == file
    assert [each.id async for each in client.files.list()] == [file.id]
    with pytest.raises(BadRequestError) as refused:
        await client.files.download(file.id)
    assert refused.value.error_code == "file_not_downloadable"
    assert (await client.files.delete(file.id)).id == file.id
    with pytest.raises(NotFoundError):
        await client.files.retrieve_metadata(file.id)


@pytest.mark.parametrize("seconds", [3599, 7_776_001])
async def test_an_expiry_outside_an_hour_and_ninety_days_is_rejected(client: AsyncAnthropic, seconds: int) -> None:
    with pytest.raises(BadRequestError, match="expires_in_seconds"):
        await client.files.upload(file=("a.txt", b"a"), expires_in_seconds=seconds)


async def test_a_missing_or_expired_file_cannot_be_referenced(client: AsyncAnthropic, simulator: Simulator) -> None:
    file = await client.files.upload(file=("tea.csv", b"a,b\n1,2\n", "text/csv"))

    async def send() -> Message:
        content = [{"type": "container_upload", "file_id": file.id}, {"type": "text", "text": RUN}]
        return await run(client, cast("MessageParam", {"role": "user", "content": content}))

    assert (await send()).stop_reason == "end_turn"
    simulator.expire(file.id)
    with pytest.raises(NotFoundError) as expired:
        await send()
    assert expired.value.error_code == "file_expired"


async def test_an_upload_without_a_file_is_rejected(simulator: Simulator, client: AsyncAnthropic) -> None:
    with pytest.raises(BadRequestError, match="multipart/form-data"):
        await client.post("/v1/files", cast_to=object, body={"a": 1})
    assert simulator.requests[-1].path == "/v1/files"


# --------------------------------------------------------------------- models that can do little


UNFIT: Sequence[tuple[str, dict[str, object], str]] = [
    ("claude-plain-2", {"tools": [CODE]}, "does not support tool types: code_execution_20260521"),
    ("claude-plain-2", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
    ("claude-thinker-1", {"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "output format"),
    ("claude-plain-2", {"output_config": {"effort": "low"}}, "effort"),
    (
        "claude-plain-2",
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]},
        "image input",
    ),
    (
        "claude-plain-2",
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "x"}}]}]},
        "PDF input",
    ),
    ("claude-thinker-1", {"tools": [CODE, CODE]}, "Tool names must be unique"),
]


@pytest.mark.parametrize(("model", "more", "why"), UNFIT)
async def test_plain_models_reject_unsupported_tools(model: str, more: dict[str, object], why: str) -> None:
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), models="plain") as simulator,
        AsyncAnthropic(api_key="any", base_url=simulator.url, max_retries=0) as client,
    ):
        assert [each.id async for each in client.models.list()] == ["claude-plain-2", "claude-thinker-1"]
        found = await client.models.retrieve("claude-plain-2")
        assert found.capabilities is not None
        assert not found.capabilities.server_tools.supported
        with pytest.raises(BadRequestError, match=why):
            await client.post(
                "/v1/messages", cast_to=object, body={**message_request("Hi", model=model, stream=False), **more}
            )


async def test_the_newer_web_tools_are_rejected_for_models_whose_code_cannot_call_them(client: AsyncAnthropic) -> None:
    with pytest.raises(BadRequestError, match="web_fetch_20260318"):
        await client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=[user("Hi")], tools=[FETCH])
