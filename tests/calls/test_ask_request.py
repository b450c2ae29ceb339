from __future__ import annotations

import inspect

import pytest

from mcp_server_claude.call_types import Limits
from mcp_server_claude.calls.ask_request import (
    FILES_ONLY_PROMPT,
    CallOrigin,
    ModelParam,
    build_call,
    parameter_description,
)
from mcp_server_claude.errors import RequestError
from mcp_server_claude.server.tools.ask import claude_ask
from mcp_server_claude.users.user import User
from mcp_server_claude.web.routes.chat_request import ChatRequest

pytestmark = pytest.mark.anyio

ORIGIN = CallOrigin(
    tool="claude_ask",
    source="shell",
    client="a client with a name of more than sixty characters " * 2,
    user=User(name="ada", limits=Limits(concurrent=2)),
    trace_id="t" * 32,
)


async def test_a_call_takes_over_its_origin_with_the_limits_of_the_user() -> None:
    call = await build_call(ORIGIN, prompt="Hi")
    assert (call.tool, call.source, call.user, call.limits.concurrent) == ("claude_ask", "shell", "ada", 2)
    assert (call.trace_id, call.client) == ("t" * 32, ORIGIN.client[:60])


async def test_arguments_are_cleaned_of_white_space_lone_surrogates_and_repetition() -> None:
    call = await build_call(
        ORIGIN, prompt="a\ud800b", system="\udc00", model=" opus ", thread=" t_1 ", tools=["web", "code", "web"]
    )
    assert (call.prompt, call.system, call.model, call.thread) == ("a\ufffdb", "\ufffd", "opus", "t_1")
    assert call.tools == ("web", "code")


async def test_files_alone_are_a_question_and_an_empty_request_is_none() -> None:
    assert (await build_call(ORIGIN, prompt=" ", files=["a.py"])).prompt == FILES_ONLY_PROMPT
    with pytest.raises(RequestError, match="The prompt is empty"):
        await build_call(ORIGIN, prompt="\n")


async def test_a_schema_is_parsed_and_an_empty_one_is_dropped() -> None:
    call = await build_call(ORIGIN, prompt="Hi", schema={"type": "object", "$id": "x"})
    assert call.schema == {"type": "object"}
    assert (await build_call(ORIGIN, prompt="Hi", schema={})).schema is None
    with pytest.raises(RequestError):
        await build_call(ORIGIN, prompt="Hi", schema={"type": "nothing"})


def test_http_takes_every_parameter_of_the_tool_with_the_same_description() -> None:
    described = {each.alias or name: each.description for name, each in ChatRequest.model_fields.items()}
    only_of_tool = {"prompt", "background", "batch", "dry_run", "approval", "services", "caller"}
    parameters = inspect.signature(claude_ask).parameters.keys() - only_of_tool
    assert parameters | {"message", "approval"} == described.keys()
    assert described["model"] == parameter_description(ModelParam)
