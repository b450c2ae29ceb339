"""Fixture tools, resources and prompts of the MCP conformance suite, for both protocol versions.

The suite (npm `@modelcontextprotocol/conformance`) describes each, with name, arguments and answer, in its scenarios.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import Message, Prompt, UserMessage
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp.types import (
    AudioContent,
    ClientCapabilities,
    ContentBlock,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    MissingRequiredClientCapabilityErrorData,
    SamplingCapability,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import Field

from mcp_server_claude.services.service_access import ServiceAccess

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.mcpserver import MCPServer

FixtureContext = Context[ServiceAccess]
Blocks = list[ContentBlock]
PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100"
        "c9fe92ef0000000049454e44ae426082"
    )
).decode()
"""A red pixel."""
WAV = base64.b64encode(
    b"RIFF\x26\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00"
    b"data\x02\x00\x00\x00\x00\x00"
).decode()
"""One sample of silence."""
STEP_S = 0.05
STATE = "state-of-the-fixture"
"""The server seals it, so a tampered one never reaches a tool."""

CONTENT_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
DEFAULTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}
OPTIONS = ["option1", "option2", "option3"]
TITLES = [{"const": f"value{number}", "title": f"{word} Option"} for number, word in enumerate(("First", "Second"), 1)]
ENUMS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": OPTIONS},
        "titledSingle": {"type": "string", "oneOf": TITLES},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
        "titledMulti": {"type": "array", "items": {"anyOf": TITLES}},
    },
}


def form(message: str, **properties: str) -> ElicitRequest:
    """A question to the user, with a field for each property: its name and JSON type."""
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(prompt: str, max_tokens: int = 100) -> CreateMessageRequest:
    """A question to the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


def answer_of(ctx: FixtureContext, key: str) -> object | None:
    """What the client answered, without what a user typed that is no form."""
    answer = (ctx.input_responses or {}).get(key)
    if isinstance(answer, ElicitResult):
        return answer.content if answer.action == "accept" else None
    if isinstance(answer, CreateMessageResult):
        return answer.content
    return answer.roots if isinstance(answer, ListRootsResult) else None


def content_tools() -> list[Callable[..., Any]]:
    """The tools that return each kind of content, an error, progress and logs."""
    embedded = TextResourceContents(
        uri="test://embedded-resource", mime_type="text/plain", text="This is an embedded resource content."
    )
    mixed = TextResourceContents(
        uri="test://mixed-content-resource",
        mime_type="application/json",
        text=json.dumps({"test": "data", "value": 123}),
    )
    image = ImageContent(type="image", data=PNG, mime_type="image/png")

    def test_simple_text() -> str:
        """Return a text."""
        return "This is a simple text response for testing."

    def test_image_content() -> Blocks:
        """Return an image."""
        return [image]

    def test_audio_content() -> Blocks:
        """Return a sound."""
        return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]

    def test_embedded_resource() -> Blocks:
        """Return a resource."""
        return [EmbeddedResource(type="resource", resource=embedded)]

    def test_multiple_content_types() -> Blocks:
        """Return a text, an image and a resource."""
        text = TextContent(type="text", text="Multiple content types test:")
        return [text, image, EmbeddedResource(type="resource", resource=mixed)]

    def test_error_handling() -> str:
        """Fail."""
        raise ToolError("This tool intentionally returns an error for testing")

    async def test_tool_with_progress(ctx: FixtureContext) -> str:
        """Report progress in three steps."""
        for progress in (0, 50, 100):
            await ctx.report_progress(progress, 100)
            await anyio.sleep(STEP_S)
        return "It has reported its progress."

    async def test_tool_with_logging(ctx: FixtureContext) -> str:
        """Log three messages."""
        for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(message)  # pyright: ignore[reportDeprecated]
            await anyio.sleep(STEP_S)
        return "It has logged."

    async def test_logging_tool(ctx: FixtureContext) -> str:
        """Log a message, where the request wants logs."""
        await ctx.info("A message")  # pyright: ignore[reportDeprecated]
        return "It has logged."

    async def test_reconnection(ctx: FixtureContext) -> str:
        """Close the stream, where it can be resumed, and answer."""
        await ctx.close_sse_stream()
        await anyio.sleep(STEP_S)
        return "It has answered after the stream was closed."

    def test_custom_headers(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "",
    ) -> str:
        """Return an argument that the client repeats in a header."""
        return region

    return [
        test_simple_text,
        test_image_content,
        test_audio_content,
        test_embedded_resource,
        test_multiple_content_types,
        test_error_handling,
        test_tool_with_progress,
        test_tool_with_logging,
        test_logging_tool,
        test_reconnection,
        test_custom_headers,
    ]


def client_request_tools() -> list[Callable[..., Any]]:
    """The tools that ask the client in the middle of a call, as 2025-11-25 allows."""

    async def test_sampling(prompt: str, ctx: FixtureContext) -> str:
        """Ask the client's model."""
        result = await ctx.session.create_message(  # pyright: ignore[reportDeprecated]
            messages=[SamplingMessage(role="user", content=TextContent(type="text", text=prompt))],
            max_tokens=100,
            related_request_id=ctx.request_id,
        )
        return f"LLM response: {result.content}"

    async def elicit(ctx: FixtureContext, message: str, schema: dict[str, Any]) -> str:
        result = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
        return f"action={result.action}, content={json.dumps(result.content)}"

    async def test_elicitation(message: str, ctx: FixtureContext) -> str:
        """Ask the user."""
        schema = {
            "type": "object",
            "properties": {
                "username": {"type": "string", "description": "User's response"},
                "email": {"type": "string", "description": "User's email address"},
            },
            "required": ["username", "email"],
        }
        return f"User response: {await elicit(ctx, message, schema)}"

    async def test_elicitation_sep1034_defaults(ctx: FixtureContext) -> str:
        """Ask the user, with a default for each kind of field."""
        return f"Elicitation completed: {await elicit(ctx, 'Please check the defaults.', DEFAULTS_SCHEMA)}"

    async def test_elicitation_sep1330_enums(ctx: FixtureContext) -> str:
        """Ask the user, with each kind of choice."""
        return f"Elicitation completed: {await elicit(ctx, 'Please choose.', ENUMS_SCHEMA)}"

    async def test_missing_capability(ctx: FixtureContext) -> str:
        """Need a client that can sample."""
        wanted = ClientCapabilities(sampling=SamplingCapability())
        if not ctx.session.check_client_capability(wanted):
            data = MissingRequiredClientCapabilityErrorData(required_capabilities=wanted)
            raise MCPError(
                -32021, "This tool needs sampling.", data.model_dump(by_alias=True, mode="json", exclude_none=True)
            )
        return "The client can sample."

    return [
        test_sampling,
        test_elicitation,
        test_elicitation_sep1034_defaults,
        test_elicitation_sep1330_enums,
        test_missing_capability,
    ]


def input_required_tools() -> list[Callable[..., Any]]:
    """The tools that return one question to the client, as in 2026-07-28."""

    def test_input_required_result_elicitation(ctx: FixtureContext) -> str | InputRequiredResult:
        """Ask the user for a name."""
        match answer_of(ctx, "user_name"):
            case {"name": str(name)}:
                return f"Hello, {name}!"
            case _:
                return InputRequiredResult(input_requests={"user_name": form("What is your name?", name="string")})

    def test_streaming_elicitation(ctx: FixtureContext) -> str | InputRequiredResult:
        """Ask the user for a name, on a stream."""
        return test_input_required_result_elicitation(ctx)

    def test_input_required_result_sampling(ctx: FixtureContext) -> str | InputRequiredResult:
        """Ask the client's model for a capital."""
        if (answer := answer_of(ctx, "capital_question")) is not None:
            return f"The model says: {answer}"
        return InputRequiredResult(input_requests={"capital_question": sampling("What is the capital of France?")})

    def test_input_required_result_list_roots(ctx: FixtureContext) -> str | InputRequiredResult:
        """Ask the client for its roots."""
        if (roots := answer_of(ctx, "client_roots")) is not None:
            return f"Roots: {roots}"
        return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})

    return [
        test_input_required_result_elicitation,
        test_streaming_elicitation,
        test_input_required_result_sampling,
        test_input_required_result_list_roots,
    ]


def request_state_tools() -> list[Callable[..., Any]]:
    """The tools that return several questions to the client, or state."""

    def test_input_required_result_request_state(ctx: FixtureContext) -> str | InputRequiredResult:
        """Ask the user for a confirmation, with state."""
        if answer_of(ctx, "confirm") is not None and ctx.request_state == STATE:
            return "state-ok"
        question = form("Please confirm", ok="boolean")
        return InputRequiredResult(input_requests={"confirm": question}, request_state=STATE)

    def test_input_required_result_tampered_state(ctx: FixtureContext) -> str | InputRequiredResult:
        """Ask the user for a confirmation, with state that must not be changed."""
        return test_input_required_result_request_state(ctx)

    def test_input_required_result_multiple_inputs(ctx: FixtureContext) -> str | InputRequiredResult:
        """Ask the user, the client's model and the client at once."""
        if ctx.input_responses:
            return f"Answers to {', '.join(ctx.input_responses)}"
        return InputRequiredResult(
            input_requests={
                "user_name": form("What is your name?", name="string"),
                "greeting": sampling("Generate a greeting", 50),
                "client_roots": ListRootsRequest(),
            },
            request_state=STATE,
        )

    def test_input_required_result_multi_round(ctx: FixtureContext) -> str | InputRequiredResult:
        """Ask the user twice."""
        if ctx.request_state == "round-2" and (answer := answer_of(ctx, "step2")) is not None:
            return f"Done: {answer}"
        if ctx.request_state == "round-1" and answer_of(ctx, "step1") is not None:
            question = form("Step 2: What is your favorite color?", color="string")
            return InputRequiredResult(input_requests={"step2": question}, request_state="round-2")
        question = form("Step 1: What is your name?", name="string")
        return InputRequiredResult(input_requests={"step1": question}, request_state="round-1")

    def test_input_required_result_capabilities(ctx: FixtureContext) -> str | InputRequiredResult:
        """Ask in the ways which the client declares."""
        declared = ctx.client_capabilities or ClientCapabilities()
        if ctx.input_responses:
            return "Thank you."
        requests: dict[str, Any] = {}
        if declared.sampling is not None:
            requests["greeting"] = sampling("Generate a greeting")
        if declared.elicitation is not None:
            requests["user_name"] = form("What is your name?", name="string")
        return InputRequiredResult(input_requests=requests)

    return [
        test_input_required_result_request_state,
        test_input_required_result_tampered_state,
        test_input_required_result_multiple_inputs,
        test_input_required_result_multi_round,
        test_input_required_result_capabilities,
    ]


def change_tools() -> list[Callable[..., Any]]:
    """The tools that say that a list has changed."""

    async def test_trigger_tool_change(ctx: FixtureContext) -> str:
        """Say that the tools have changed."""
        await ctx.notify_tools_changed()
        return "Said."

    async def test_trigger_prompt_change(ctx: FixtureContext) -> str:
        """Say that the prompts have changed."""
        await ctx.notify_prompts_changed()
        return "Said."

    return [test_trigger_tool_change, test_trigger_prompt_change]


def fixture_tools() -> list[Tool]:
    """All fixture tools but those of tasks."""
    functions = [*content_tools(), *client_request_tools(), *input_required_tools()]
    functions += [*request_state_tools(), *change_tools()]
    tools = [Tool.from_function(function, structured_output=False) for function in functions]

    def json_schema_2020_12_tool() -> str:
        """Take arguments by a schema with the keywords of JSON Schema 2020-12."""
        return "It has a schema."

    schema_tool = Tool.from_function(json_schema_2020_12_tool, structured_output=False)
    return [*tools, schema_tool.model_copy(update={"parameters": CONTENT_SCHEMA})]


def register_fixture_resources(server: MCPServer[ServiceAccess]) -> None:
    """Add the resources of the suite."""

    @server.resource("test://static-text", name="static-text", description="A text.", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", name="static-binary", description="A pixel.", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PNG)

    @server.resource("test://template/{id}/data", name="template", description="Data.", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002 - the suite's word
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.resource("test://watched-resource", name="watched", description="A text.", mime_type="text/plain")
    def watched() -> str:
        return "It never changes."


def register_fixture_prompts(server: MCPServer[ServiceAccess]) -> None:
    """Add the prompts of the suite."""

    def test_simple_prompt() -> str:
        """A text."""
        return "This is a simple prompt for testing."

    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """A text with two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:  # noqa: N803 - the suite's word
        """A resource and a text."""
        contents = TextResourceContents(
            uri=resourceUri, mime_type="text/plain", text="Embedded resource content for testing."
        )
        return [
            UserMessage(EmbeddedResource(type="resource", resource=contents)),
            UserMessage("Please process the embedded resource above."),
        ]

    def test_prompt_with_image() -> list[Message]:
        """An image and a text."""
        return [
            UserMessage(ImageContent(type="image", data=PNG, mime_type="image/png")),
            UserMessage("Please analyze the image above."),
        ]

    def test_input_required_result_prompt(ctx: FixtureContext) -> str | InputRequiredResult:
        """A text with what the user answers."""
        match answer_of(ctx, "user_context"):
            case {"context": str(context)}:
                return f"Context: {context}"
            case _:
                question = form("What context should the prompt use?", context="string")
                return InputRequiredResult(input_requests={"user_context": question})

    for function in (
        test_simple_prompt,
        test_prompt_with_arguments,
        test_prompt_with_embedded_resource,
        test_prompt_with_image,
        test_input_required_result_prompt,
    ):
        server.add_prompt(Prompt.from_function(function))
