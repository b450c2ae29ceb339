"""The prompts and the completion of their arguments, in both protocol versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, PromptReference, ResourceTemplateReference, TextContent

from support.mcp_session import connect, usage_meta

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator
    from support.mcp_session import ProtocolMode

pytestmark = pytest.mark.anyio
BOTH_VERSIONS = pytest.mark.parametrize("mode", ["auto", "legacy"])


@BOTH_VERSIONS
async def test_prompts_need_no_argument_and_name_the_call(
    upstream: Simulator, tmp_path: Path, mode: ProtocolMode
) -> None:
    async with connect("memory", mode, tmp_path / "data", base_url=upstream.url) as session:
        listed = (await session.client.list_prompts()).prompts
        assert [prompt.name for prompt in listed] == ["second_opinion", "review_diff", "red_team", "explain"]
        for prompt in listed:
            assert not any(argument.required for argument in prompt.arguments or [])
            (message,) = (await session.client.get_prompt(prompt.name)).messages
            assert 'claude_ask(prompt=…, model="opus")' in cast("TextContent", message.content).text
        arguments = {"range": "main..", "model": "sonnet", "thread": "t_1"}
        (message,) = (await session.client.get_prompt("review_diff", arguments)).messages
        text = cast("TextContent", message.content).text
    assert "`main..`" in text
    assert text.endswith('model="sonnet", thread="t_1").')


@BOTH_VERSIONS
@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("explain", {"paht": "a"}, r"There is no argument 'paht'\. There are: path, model, thread\."),
        ("explain", {"path": "a\nb"}, r"path must be one line of at most 500 characters\."),
        ("explain", {"path": "a" * 501}, r"path must be one line of at most 500 characters\."),
        ("exlpain", {}, "exlpain"),
    ],
)
async def test_a_wrong_argument_is_an_invalid_parameter_with_an_explanation(
    upstream: Simulator, tmp_path: Path, mode: ProtocolMode, name: str, arguments: dict[str, str], sentence: str
) -> None:
    async with connect("memory", mode, tmp_path / "data", base_url=upstream.url) as session:
        with pytest.raises(MCPError, match=sentence) as raised:
            await session.client.get_prompt(name, arguments)
    assert raised.value.code == INVALID_PARAMS


@BOTH_VERSIONS
async def test_models_threads_and_calls_are_completed(upstream: Simulator, tmp_path: Path, mode: ProtocolMode) -> None:
    async with connect("memory", mode, tmp_path / "data", base_url=upstream.url) as session:
        assert session.client.server_capabilities is not None
        assert session.client.server_capabilities.completions is not None
        used = usage_meta(await session.ask("x"))
        prompt = PromptReference(name="explain")

        async def values(ref: PromptReference | ResourceTemplateReference, name: str, typed: str) -> list[str]:
            return (await session.client.complete(ref, {"name": name, "value": typed})).completion.values

        models = await values(prompt, "model", "OPUS")
        assert models[0] == "opus"
        assert "claude-opus-5-5" in await values(prompt, "model", "claude-opus")
        assert await values(prompt, "thread", "t_") == [used["thread"]]
        assert await values(prompt, "path", "src") == []
        threads = ResourceTemplateReference(uri="claude://threads/{id}{?offset,limit}")
        calls = ResourceTemplateReference(uri="claude://calls/{id}{?offset,limit}")
        assert await values(threads, "id", "") == [used["thread"]]
        assert await values(calls, "id", "c_") == [used["call_id"]]
