"""JSON-RPC errors for requests that name a tool, a prompt or a resource that does not exist, by protocol version."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS
from pydantic import ValidationError

from mcp_server_claude.errors import CallError, RequestError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.server.tool_results import tool_error_text
from mcp_server_claude.server.validation_messages import printable_name, validation_message

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from mcp.server.context import CallNext, ServerMiddleware, ServerRequestContext

    from mcp_server_claude.services.service_access import ServiceAccess

RESOURCE_NOT_FOUND = -32002
"""The code for an unknown resource up to 2025-11-25 (https://modelcontextprotocol.io/specification/2025-11-25/server/
resources, "Error Handling"); 2026-07-28 has INVALID_PARAMS there, as documented by November 2026."""
FIRST_VERSION_WITHOUT_RESOURCE_CODE = "2026-07-28"
MAX_MESSAGE_CHARS = 200


def resource_not_found_code(protocol_version: str) -> int:
    """The error code for an unknown resource. Versions are dates, which compare as texts."""
    return INVALID_PARAMS if protocol_version >= FIRST_VERSION_WITHOUT_RESOURCE_CODE else RESOURCE_NOT_FOUND


@contextmanager
def call_errors_as_protocol_errors(protocol_version: str) -> Generator[None]:
    """Raise the call errors of the block as errors of `resources/read`.

    Raises:
        MCPError: The resource does not exist, its address is wrong, or it cannot be read.
    """
    try:
        yield
    except CallError as error:
        if error.kind == "not_found":
            code = resource_not_found_code(protocol_version)
        else:
            code = INVALID_PARAMS if isinstance(error, RequestError) else INTERNAL_ERROR
        raise MCPError(code, tool_error_text(error), error.as_json()) from None


def unknown_name_errors(tool_names: Sequence[str]) -> ServerMiddleware[ServiceAccess]:
    """The middleware that answers a request for an unknown name with the error that its protocol version has for it.

    The SDK answers an unknown tool with a result, an unknown resource with the code of 2026-07-28, and logs an unknown
    prompt as a crash of the server.
    """

    async def use_protocol_errors(ctx: ServerRequestContext[ServiceAccess, Any], call_next: CallNext) -> Any:
        if ctx.method == "tools/call" and ctx.params is not None:
            name = ctx.params.get("name")
            if isinstance(name, str) and name not in tool_names:
                known = ", ".join(tool_names)
                raise MCPError(INVALID_PARAMS, f"There is no tool named {printable_name(name)!r}. There are: {known}.")
        try:
            return await call_next(ctx)
        except ValueError as error:
            if ctx.method != "prompts/get":
                raise
            is_invalid = isinstance(error, ValidationError)  # its own text repeats the value
            message = validation_message(error.errors(include_url=False)) if is_invalid else str(error)
            raise MCPError(INVALID_PARAMS, replace_lone_surrogates(message)[:MAX_MESSAGE_CHARS]) from None
        except MCPError as error:
            if ctx.method == "resources/read" and error.message.startswith("Unknown resource"):
                code = resource_not_found_code(ctx.protocol_version)
                raise MCPError(code, error.message, error.data) from None
            raise

    return use_protocol_errors
