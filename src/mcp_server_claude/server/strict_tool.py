"""A tool as this server registers it: strict about its arguments, and the one place where failures become results."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult
from pydantic import ValidationError

from mcp_server_claude.errors import CallError, RequestError, local_resource_error
from mcp_server_claude.lone_surrogates import without_lone_surrogates
from mcp_server_claude.name_suggestions import similar_names
from mcp_server_claude.server import tool_results
from mcp_server_claude.server.argument_tolerance import tolerated_arguments
from mcp_server_claude.server.tool_dependencies import client_of_request
from mcp_server_claude.server.validation_messages import printable_name, validation_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.mcpserver import Context
    from mcp.types import ToolAnnotations

RESULT_META = {"anthropic/maxResultSizeChars": 500_000}
"""Claude Code keeps results up to this many characters inline; its default is 50,000 and 500,000 its most."""
READ_ONLY_HINTS = {"read_only_hint": True, "destructive_hint": False, "idempotent_hint": False}
"""`read_only_hint` is what lets Claude Code run calls in parallel."""


class StrictTool(Tool):
    """A tool that refuses unknown arguments, drops nulls for optional ones, and answers failures in one sentence.

    The SDK ignores unknown arguments (python-sdk#3067), echoes rejected values, and masks our failures as crashes.
    """

    @classmethod
    def for_function(
        cls, function: Callable[..., Any], *, title: str, annotations: ToolAnnotations, meta: dict[str, Any]
    ) -> StrictTool:
        """The tool for a function, its description and schema without what only costs tokens: indents and titles."""
        tool = cls.from_function(
            function,
            title=title,
            description=inspect.getdoc(function),
            annotations=annotations,
            meta=meta,
            structured_output=False,
        )
        tool.parameters = {**_without_titles(tool.parameters), "additionalProperties": False}
        return cast("StrictTool", tool)

    async def run(
        self,
        arguments: dict[str, Any],
        context: Context[Any, Any],
        convert_result: bool = False,  # noqa: FBT001, FBT002 - the SDK's signature
    ) -> Any:
        """Run the tool; a `CallError` comes back as an error result, a bug travels on and is masked by the SDK."""
        try:
            result = await super().run(self._check_arguments(arguments), context, convert_result)
        except ToolError as error:
            failure = _call_error_beneath(error.__cause__) or local_resource_error(error.__cause__)
            if failure is None:
                raise
            return tool_results.error_result(failure)
        except CallError as failure:
            return tool_results.error_result(failure)
        if not isinstance(result, CallToolResult):
            return result
        _, traits = client_of_request(context.request_context)
        return tool_results.adapt_to_client(result, traits)

    def _check_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        known: Mapping[str, Any] = self.parameters.get("properties", {})
        required: list[str] = self.parameters.get("required", [])
        accepted = tolerated_arguments(arguments, known, required)
        for name in accepted:
            if name not in known:
                raise RequestError(_unknown_argument_text(name, list(known)))
        return {name: without_lone_surrogates(value) for name, value in accepted.items()}


def _call_error_beneath(cause: BaseException | None) -> CallError | None:
    """The failure beneath what the SDK raised, out of the groups that task groups make of a single exception."""
    while isinstance(cause, BaseExceptionGroup):
        first, *others = cast("BaseExceptionGroup[BaseException]", cause).exceptions
        if others:
            return None
        cause = first
    match cause:
        case CallError():
            return cause
        case ValidationError():
            return RequestError(validation_message(cause.errors(include_input=False, include_url=False)))
        case _:
            return None


def _unknown_argument_text(name: str, known: list[str]) -> str:
    near = similar_names(name[:60], known, limit=1)
    hint = f" Did you mean {near[0]}?" if near else f" There are: {', '.join(known)}."
    return f"There is no parameter named {printable_name(name)!r}.{hint}"


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without pydantic's generated titles; a property that is named title stays."""
    slim = {name: value for name, value in schema.items() if name != "title"}
    if isinstance(slim.get("properties"), dict):
        slim["properties"] = {name: _without_titles(value) for name, value in slim["properties"].items()}
    return slim
