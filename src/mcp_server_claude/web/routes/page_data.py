"""JSON for the chat page: the current user, the models, the threads, output files. Never cached."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel

from mcp_server_claude import pricing
from mcp_server_claude.anthropic_api.platforms import find_credential
from mcp_server_claude.calls.thread_transcripts import render_answer
from mcp_server_claude.engine.spending_limit import next_budget_day
from mcp_server_claude.errors import ConfigurationError, RequestError
from mcp_server_claude.files import FilePolicy, summarize_files
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.store import call_journal
from mcp_server_claude.web.error_text import error_text
from mcp_server_claude.web.openapi import BEARER_AUTH, openapi_errors
from mcp_server_claude.web.route_dependencies import ServicesDep, UserDep

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store.thread_messages import AnswerStatus, Thread, ThreadCursor, ThreadMessage
    from mcp_server_claude.users.user import Role

THREADS_PER_PAGE = 100
THREAD_CURSOR = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?):(t_[0-9a-f]{1,32})")
"""Place in the list of threads: `updated` and `id` of a thread."""
MAX_TITLE_CHARS = 80
ThreadId = Annotated[str, Path(description="A thread's id (t_…).", max_length=60)]
FileId = Annotated[str, Path(description="The id of an output file (f_…).", max_length=60)]
router = APIRouter(tags=["page"], dependencies=[BEARER_AUTH])


class FileLimits(BaseModel):
    """Limits of the files of one question. `bytes` bounds them as they are sent: those that are not text in base64."""

    files: int
    bytes: int
    text_chars: int


class CurrentUser(BaseModel):
    """The current user, today's budget, and limits for files.

    `problem` says why no question can be answered at present, for instance because the server has no API key; it is
    empty if none is known.
    """

    name: str
    role: str
    signed_in: bool
    spent_today_usd: float
    budget_usd: float | None
    resets_at: str
    file_limits: FileLimits
    problem: str


class ModelListItem(BaseModel):
    """A model. Prices are dollars per million tokens, null if unknown."""

    id: str
    name: str
    line: str
    default: bool
    efforts: list[str]
    images: bool
    pdf: bool
    input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None


class ThreadListItem(BaseModel):
    """A conversation in the list. `updated` is in unix seconds."""

    id: str
    title: str
    updated: float
    cost_usd: float


class AttachmentInfo(BaseModel):
    """A file attached to a question; `size` in bytes, null if unknown."""

    name: str
    kind: str
    size: int | None


class OutputFileInfo(BaseModel):
    """A file that Claude's code created; `GET /files/{id}` downloads it."""

    id: str
    name: str
    mime_type: str
    bytes: int | None


class MessageResponse(BaseModel):
    """A message of a conversation. An answer has a call, a usage account, and the `output_files` that code created."""

    role: str
    text: str
    files: list[AttachmentInfo] = []
    output_files: list[OutputFileInfo] = []
    call: str = ""
    usage: dict[str, object] | None = None
    running: bool = False
    incomplete: str = ""


class ThreadResponse(ThreadListItem):
    """A conversation with all its messages."""

    model: str
    messages: list[MessageResponse]


@router.get("/me.json", responses=openapi_errors())
async def get_current_user(services: ServicesDep, user: UserDep) -> CurrentUser:
    """The current user."""
    users = services.users
    return CurrentUser(
        name=user.name,
        role=user.role,
        signed_in=await users.has_users(),
        spent_today_usd=await users.spent_today_usd(user.name),
        budget_usd=user.limits.usd_per_day,
        resets_at=f"{next_budget_day():%Y-%m-%dT%H:%M:%SZ}",
        file_limits=_file_limits(services.settings),
        problem=await anyio.to_thread.run_sync(_setup_problem, services.settings, user.role),
    )


@router.get("/models.json", responses=openapi_errors())
async def list_models(services: ServicesDep) -> list[ModelListItem]:
    """The available models, newest first."""
    catalogue = await services.model_catalog()
    default = catalogue.resolve_model("", default=services.settings.model or "sonnet").id
    return [_model_item(model, default) for model in catalogue.callable_models]


@router.get("/threads.json", responses=openapi_errors(422))
async def list_threads(
    response: Response,
    services: ServicesDep,
    user: UserDep,
    after: Annotated[
        str, Query(max_length=60, description="The last thread of the page before, as `updated:id`.")
    ] = "",
) -> list[ThreadListItem]:
    """A page of the user's conversations, the latest first.

    If there are more, the header `Link` has the address of the next page (RFC 8288, `rel="next"`).
    """
    threads = services.threads
    listed = await threads.latest_threads_with_costs(user.name, THREADS_PER_PAGE + 1, _parse_thread_cursor(after))
    items = [_thread_item(thread, cost) for thread, cost in listed[:THREADS_PER_PAGE]]
    if len(listed) > THREADS_PER_PAGE:
        response.headers["Link"] = f'</threads.json?after={items[-1].updated}:{items[-1].id}>; rel="next"'
    return items


@router.get("/threads/{thread_id}.json", responses=openapi_errors(404, 422))
async def get_thread(thread_id: ThreadId, services: ServicesDep, user: UserDep) -> ThreadResponse:
    """A conversation of the user; an answer that is being written is its last message."""
    transcript = await services.threads.read_transcript_with_costs(thread_id, user.name)
    messages = [_message_response(turn, transcript.answers.get(turn.call_id)) for turn in transcript.turns]
    output_files = services.output_files
    for message in messages:
        if message.call:
            created = await output_files.files_of_call(message.call, user.name)
            message.output_files = [OutputFileInfo(**asdict(file)) for file in created]
    running = await services.calls.running_call_in_thread(thread_id, user.name)
    if running:
        messages.append(MessageResponse(role="assistant", text="", call=running, running=True))
    elif messages and messages[-1].role == "user":  # the server stopped before the answer was complete
        messages.append(await _interrupted_message(services, transcript.turns[-1].call_id, user.name))
    head = _thread_item(transcript.thread, transcript.cost_micros)
    return ThreadResponse(**head.model_dump(), model=transcript.thread.model, messages=messages)


@router.delete("/threads/{thread_id}", status_code=204, responses=openapi_errors(404, 409, 422))
async def delete_thread(thread_id: ThreadId, services: ServicesDep, user: UserDep) -> Response:
    """Delete a conversation and its text. Its cost stays in the usage report."""
    if await services.calls.running_call_in_thread(thread_id, user.name):
        raise RequestError(
            "An answer is being written in this thread. Stop it before you delete the thread.", kind="conflict"
        )
    await services.threads.delete_thread(thread_id, user.name)
    return Response(status_code=204)


@router.get(
    "/files/{file_id}",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The file."},
        **openapi_errors(404, 413, 422),
    },
)
async def download_file(file_id: FileId, services: ServicesDep, user: UserDep) -> Response:
    """Download a file that Claude's code created. Always an attachment: Claude's code chose its type."""
    download = await services.output_files.download(file_id, user.name)
    name = quote(replace_lone_surrogates(download.file.name), safe="")
    return Response(
        download.data,
        media_type="application/octet-stream",
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"},
    )


def _file_limits(settings: Settings) -> FileLimits:
    policy = FilePolicy(roots=(), max_files=settings.max_files)
    return FileLimits(files=policy.max_files, bytes=policy.max_total_bytes, text_chars=policy.max_text_chars)


def _setup_problem(settings: Settings, role: Role) -> str:
    """The reason why every question would fail, for instance no API key; blocks while it looks for one."""
    try:
        find_credential(settings)
    except ConfigurationError as error:
        return error_text(error, role)
    return ""


def _parse_thread_cursor(text: str) -> ThreadCursor | None:
    if not text:
        return None
    match = THREAD_CURSOR.fullmatch(text)
    if match is None:
        raise RequestError("after must be the `updated:id` of a thread, as in the Link header.")
    return float(match[1]), match[2]


def _model_item(model: ClaudeModel, default: str) -> ModelListItem:
    rates = pricing.find_rates(model.id)
    return ModelListItem(
        id=model.id,
        name=model.name or model.id,
        line=model.line,
        default=model.id == default,
        efforts=list(model.efforts),
        images=model.images,
        pdf=model.pdf,
        input_usd_per_mtok=float(rates.input) if rates else None,
        output_usd_per_mtok=float(rates.output) if rates else None,
    )


def _thread_item(thread: Thread, cost_micros: int) -> ThreadListItem:
    title = thread.head if len(thread.head) <= MAX_TITLE_CHARS else f"{thread.head[:MAX_TITLE_CHARS]}…"
    return ThreadListItem(id=thread.id, title=title, updated=thread.touched_at, cost_usd=cost_micros / 1e6)


async def _interrupted_message(services: ServiceAccess, call_id: str, user: str) -> MessageResponse:
    """The answer that a call had written when the server stopped; it joins the thread with the next question."""
    snapshot = await services.calls.read_call(call_id, user)
    usage = snapshot.record.usage
    return MessageResponse(
        role="assistant",
        text=snapshot.text,
        call=call_id,
        usage=None if usage is None else dict(usage),
        incomplete=snapshot.record.incomplete or call_journal.SERVER_ENDED,
    )


def _message_response(turn: ThreadMessage, answer: AnswerStatus | None) -> MessageResponse:
    if turn.role == "user":  # the files precede the question
        texts = [str(block.get("text") or "") for block in turn.content if block.get("type") == "text"]
        files = [
            AttachmentInfo(name=each.name, kind=each.kind, size=each.size)
            for each in summarize_files(turn.content[:-1])
        ]
        return MessageResponse(role="user", text=texts[-1] if texts else "", files=files)
    return MessageResponse(
        role="assistant",
        text=render_answer(turn),
        call=turn.call_id,
        usage=answer.usage if answer else None,
        incomplete=answer.incomplete if answer else "",
    )
