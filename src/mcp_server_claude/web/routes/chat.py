"""`/chat`: ask, and read the answer as it is written; come back for the rest; stop.

    curl -N http://127.0.0.1:8000/chat -H 'Content-Type: application/json' -d '{"message": "What is tea?"}'

Who asks is one reader of a call that belongs to nobody's request: see `streams`.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, cast

import anyio.to_thread
from fastapi import APIRouter, Header, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent

from mcp_server_claude import schemas
from mcp_server_claude.call_types import Call
from mcp_server_claude.errors import RequestError
from mcp_server_claude.web import error_responses
from mcp_server_claude.web.openapi import BEARER_AUTH, STATUS_DESCRIPTIONS, STREAM_RESPONSE, ErrorBody, openapi_errors
from mcp_server_claude.web.route_dependencies import ServicesDep, UserDep
from mcp_server_claude.web.routes import server_sent_events
from mcp_server_claude.web.routes.chat_request import ChatRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from mcp_server_claude.calls.answer_feed import AnswerFeed, FeedEvent
    from mcp_server_claude.users.user import User

PING_INTERVAL_S = 15
SHUTDOWN_GRACE_S = 2.0
"""Seconds that a server which ends by itself leaves readers to be told so."""
EMPTY_PROMPT_WITH_FILES = "Please look at the attached files."
"""Said for who sends files without a word: the API takes no empty text."""
STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
EVENT_ID = re.compile(r"(c_[0-9a-f]{16}):([0-9]{1,15})")
"""An event's id: a call, and how many characters of its answer were told."""


router = APIRouter(tags=["chat"], dependencies=[BEARER_AUTH])

__all__ = ["STATUS_DESCRIPTIONS", "ErrorBody", "handle_validation_error", "router"]


class StopResponse(BaseModel):
    """Whether the call was running, and is now being stopped."""

    stopping: bool


CallId = Annotated[str, Path(description="A call's id, from the `start` event.", max_length=60)]
LastEventId = Annotated[
    str,
    Header(alias="Last-Event-ID", description="The id of the last event that came, `c_…:N`. The rest follows."),
]


@router.post(
    "/chat",
    response_class=EventSourceResponse,
    responses={200: STREAM_RESPONSE, **openapi_errors(*STATUS_DESCRIPTIONS)},
    summary="Ask Claude",
)
async def post_chat(chat_request: ChatRequest, request: Request, services: ServicesDep, user: UserDep) -> Response:
    """Ask, and read the answer while it is written.

    The connection may be lost: the call goes on for a while (`MCP_CLAUDE_READER_GRACE_S`), and `GET /chat/{call}` with
    the last event's id has the rest. What fails before there is anything to tell is a plain HTTP error.
    """
    streams = await services.answer_feed()
    call = await streams.start_answer(await _build_call(chat_request, request, user))
    response = _stream_response(request, streams, call.id, await streams.follow_answer(call.id, user.name))
    response.headers["Thread-Id"] = call.thread
    return response


@router.get(
    "/chat/{call_id}",
    response_class=EventSourceResponse,
    responses={200: STREAM_RESPONSE, **openapi_errors(400, 401, 404, 421, 422, 500, 503)},
    summary="Read a call's answer",
)
async def get_answer(
    call_id: CallId, request: Request, services: ServicesDep, user: UserDep, last_event_id: LastEventId = ""
) -> Response:
    """Read an answer from its start, or the rest of it, while it is written or afterwards."""
    streams = await services.answer_feed()
    offset = _resume_offset(last_event_id.strip(), call_id)
    return _stream_response(request, streams, call_id, await streams.follow_answer(call_id, user.name, offset))


@router.post(
    "/chat/{call_id}/stop",
    responses=openapi_errors(400, 401, 403, 404, 408, 413, 415, 421, 422, 500, 503),
    summary="Stop a call",
)
async def post_stop(call_id: CallId, services: ServicesDep, user: UserDep) -> StopResponse:
    """Stop a call. Its readers are told; what is written stays, and is paid for."""
    streams = await services.answer_feed()
    return StopResponse(stopping=await streams.stop_answer(call_id, user.name))


async def handle_validation_error(_: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler for a request that has not the right shape: which field, never its value."""
    errors = error.errors() if isinstance(error, RequestValidationError) else ()
    response = error_responses.error_response(RequestError(_validation_message(errors)))
    response.status_code = 422
    return response


async def _build_call(chat_request: ChatRequest, request: Request, user: User) -> Call:
    message = chat_request.message
    if not message.strip():
        if not chat_request.files:
            raise RequestError("The message is empty. Say what Claude should do.")
        message = EMPTY_PROMPT_WITH_FILES
    schema = chat_request.schema_
    return Call(
        prompt=message,
        system=chat_request.system,
        model=chat_request.model.strip(),
        effort=chat_request.effort,
        max_tokens=chat_request.max_tokens,
        max_usd=chat_request.max_usd,
        thread=chat_request.thread.strip(),
        tools=tuple(dict.fromkeys(chat_request.tools)),
        files=chat_request.file_references(),
        schema=await anyio.to_thread.run_sync(schemas.parse_json_schema, schema) if schema else None,
        tool="chat",
        source="http",
        client=request.headers.get("user-agent", "")[:60],
        user=user.name,
        limits=user.limits,
    )


def _resume_offset(event_id: str, call_id: str) -> int:
    """How much of a call's answer a reader has.

    Raises:
        RequestError: It is no event's id, or another call's.
    """
    if not event_id:
        return 0
    found = EVENT_ID.fullmatch(event_id)
    if found is None or found[1] != call_id:
        raise RequestError("Last-Event-ID is the id of an event of this call, c_…:N.")
    return int(found[2])


def _stream_response(request: Request, streams: AnswerFeed, call_id: str, feed: AsyncGenerator[FeedEvent]) -> Response:
    """The response that one reader gets, in the form that they prefer."""
    draining = cast("anyio.Event | None", getattr(request.app.state, "draining", None))
    if draining is not None:
        streams.drain_readers_when(draining)
    bare = server_sent_events.prefers_plain_text(request.headers.get("accept", ""))
    return EventSourceResponse(
        _encode_feed(
            feed, server_sent_events.encode_plain_text if bare else server_sent_events.SseEncoder(call_id).encode_event
        ),
        media_type="text/plain" if bare else "text/event-stream",
        headers={**STREAM_HEADERS, "Call-Id": call_id},
        ping=0 if bare else PING_INTERVAL_S,
        ping_message_factory=_ping_event,
        shutdown_event=draining,
        shutdown_grace_period=SHUTDOWN_GRACE_S,
    )


async def _encode_feed(feed: AsyncGenerator[FeedEvent], encode: Callable[[FeedEvent], bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(feed):
        async for each in feed:
            if sent := encode(each):
                yield sent


def _ping_event() -> ServerSentEvent:
    return ServerSentEvent(comment="still there", sep="\n")


def _validation_message(errors: Sequence[Any]) -> str:
    """A sentence on each of the first things that are wrong with a request."""
    told = dict.fromkeys(_field_message(each) for each in errors)
    return " ".join(list(told)[:3]) or "The request is not understood."


def _field_message(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"][1:] if part not in {"InlineFile", "str"})
    name = "".join(each for each in name[:60] if each.isprintable())
    match error["type"]:
        case "json_invalid":
            return "The body is not JSON."
        case "model_attributes_type" | "model_type" | "dict_type" if not name:
            return "The body is not a JSON object."
        case _ if re.fullmatch(r"files\.\d+", name):
            return f"{name} is neither a text nor an object with name and data."
        case "missing":
            return f"{name or 'The body'} is required."
        case "extra_forbidden":
            return f"There is no field named {name!r}."
        case "literal_error":
            return f"{name} is not one of {str(error['ctx']['expected']).removeprefix(chr(39) * 2 + ', ')}."
        case _:
            message = str(error["msg"])
            wants = message.removeprefix("Value error, ").replace("Input should", "it should", 1)
            return f"{name}: {wants}." if name else f"{wants[0].upper()}{wants[1:]}."
