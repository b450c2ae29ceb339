"""`/chat`: ask, read the answer while it is written, resume reading, stop.

    curl -N http://127.0.0.1:8000/chat -H 'Content-Type: application/json' -d '{"message": "What is tea?"}'

A call does not belong to the request that started it: any number of readers follow it, see `calls.answer_feed`.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel

from mcp_server_claude.calls.ask_request import CallOrigin
from mcp_server_claude.errors import RequestError
from mcp_server_claude.web.answer_response import AnswerResponse, AnswerSender
from mcp_server_claude.web.openapi import BEARER_AUTH, STATUS_DESCRIPTIONS, STREAM_RESPONSE, openapi_errors
from mcp_server_claude.web.route_dependencies import AppStateDep, ServicesDep, UserDep, reader_role
from mcp_server_claude.web.routes import server_sent_events
from mcp_server_claude.web.routes.chat_approval import check_cost_approval
from mcp_server_claude.web.routes.chat_request import ChatRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp_server_claude.calls.answer_feed import AnswerFeed, FeedEvent
    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.web.route_dependencies import AppState

STREAM_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
EVENT_ID = re.compile(r"(c_[0-9a-f]{16,40}):([0-9]{1,15})")
"""An event's id: the call's id and the number of characters of its answer sent so far."""

router = APIRouter(tags=["chat"], dependencies=[BEARER_AUTH])


class StopResponse(BaseModel):
    """`stopping` is true if the call was running and is now being stopped."""

    stopping: bool


CallId = Annotated[str, Path(description="A call's id, from the `start` event.", max_length=60)]
LastEventId = Annotated[
    str,
    Header(
        alias="Last-Event-ID", description="The id of the last event received, `c_…:N`. The response contains the rest."
    ),
]


@router.post(
    "/chat",
    response_class=AnswerResponse,
    responses={200: STREAM_RESPONSE, **openapi_errors(*STATUS_DESCRIPTIONS)},
    summary="Ask Claude",
)
async def post_chat(
    chat_request: ChatRequest, request: Request, state: AppStateDep, services: ServicesDep, user: UserDep
) -> Response:
    """Ask, and read the answer while it is written.

    If the connection is lost the call continues for a while (`MCP_CLAUDE_READER_GRACE_S`), and `GET /chat/{call}` with
    the last event's id returns the rest. A call that fails before its first event is an HTTP error. One that may cost
    more than `MCP_CLAUDE_CONFIRM_ABOVE_USD` is the error 402 of kind `confirmation`; the same request with the error's
    `approval` is answered.
    """
    answer_feed = _draining_feed(services, state)
    origin = CallOrigin(
        tool="chat", source="http", client=request.headers.get("user-agent", ""), user=user, shows_status=True
    )
    call = await chat_request.build_call(origin)
    await check_cost_approval(services, call, chat_request.approval)
    call = await answer_feed.start_answer(call)
    sender = _answer_sender(request, call.id, is_json=bool(chat_request.schema_))
    feed = await answer_feed.follow_answer(call.id, user.name, send_now=sender.send_now)
    response = _stream_response(request, call.id, feed, sender)
    response.headers["Thread-Id"] = call.thread
    return response


@router.get(
    "/chat/{call_id}",
    response_class=AnswerResponse,
    responses={200: STREAM_RESPONSE, **openapi_errors(400, 401, 404, 421, 422, 500, 503)},
    summary="Read a call's answer",
)
async def get_answer(
    call_id: CallId,
    request: Request,
    state: AppStateDep,
    services: ServicesDep,
    user: UserDep,
    last_event_id: LastEventId = "",
) -> Response:
    """Read an answer from its start, or the rest of it, while it is written or afterwards."""
    answer_feed = _draining_feed(services, state)
    offset = _resume_offset(last_event_id.strip(), call_id)
    sender = _answer_sender(request, call_id)
    feed = await answer_feed.follow_answer(call_id, user.name, offset, send_now=sender.send_now)
    return _stream_response(request, call_id, feed, sender)


@router.post(
    "/chat/{call_id}/stop",
    responses=openapi_errors(400, 401, 403, 404, 408, 413, 415, 421, 422, 500, 503),
    summary="Stop a call",
)
async def post_stop(call_id: CallId, services: ServicesDep, user: UserDep) -> StopResponse:
    """Stop a call. Its readers get the last events; the text so far is kept, and billed."""
    return StopResponse(stopping=await services.answer_feed.stop_answer(call_id, user.name))


def _resume_offset(event_id: str, call_id: str) -> int:
    """The number of characters that a reader already has.

    Raises:
        RequestError: The id is malformed, or another call's.
    """
    if not event_id:
        return 0
    match = EVENT_ID.fullmatch(event_id)
    if match is None or match[1] != call_id:
        raise RequestError("Last-Event-ID must be the id of an event of this call, c_…:N.")
    return int(match[2])


def _answer_sender(request: Request, call_id: str, *, is_json: bool = False) -> AnswerSender:
    """What sends an answer to one reader, as events or plain text by its `Accept` header."""
    role = reader_role(request)
    if _prefers_plain_text(request):
        return AnswerSender(partial(server_sent_events.encode_plain_text, role=role))
    return AnswerSender(server_sent_events.SseEncoder(call_id, is_json=is_json, role=role).encode_event)


def _stream_response(
    request: Request, call_id: str, feed: AsyncGenerator[FeedEvent], sender: AnswerSender
) -> AnswerResponse:
    """The response for one reader."""
    media_type = "text/plain" if _prefers_plain_text(request) else "text/event-stream"
    return AnswerResponse(feed, sender, media_type=media_type, headers={**STREAM_HEADERS, "Call-Id": call_id})


def _prefers_plain_text(request: Request) -> bool:
    return server_sent_events.prefers_plain_text(request.headers.get("accept", ""))


def _draining_feed(services: ServiceAccess, state: AppState) -> AnswerFeed:
    """The answer feed, which ends its readers when the app drains."""
    answer_feed = services.answer_feed
    answer_feed.drain_readers_when(state.draining)
    return answer_feed
