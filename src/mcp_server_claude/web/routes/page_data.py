"""What the chat page shows besides answers: who one is, the models, the threads. JSON, and no caching."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel

from mcp_server_claude import pricing
from mcp_server_claude.calls.conversation_threads import answer_in
from mcp_server_claude.errors import Refused
from mcp_server_claude.files import shown
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.web.openapi import BEARER, problems
from mcp_server_claude.web.route_dependencies import TheServices, TheUser

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.models import Model
    from mcp_server_claude.store.thread_messages import Answer, Thread, Turn

MOST = 100
TITLE = 80
ThreadId = Annotated[str, Path(description="A thread's id (t_…).", max_length=60)]
FileId = Annotated[str, Path(description="A made file's id (f_…).", max_length=60)]
router = APIRouter(tags=["page"], dependencies=[BEARER])


class Me(BaseModel):
    """Who asks, and what is left to them today."""

    name: str
    role: str
    signed_in: bool
    spent_today_usd: float
    budget_usd: float | None
    resets_at: str


class ModelCard(BaseModel):
    """A model that can be asked. Prices are dollars per million tokens, null where unknown."""

    id: str
    name: str
    line: str
    default: bool
    efforts: list[str]
    images: bool
    pdf: bool
    input_usd_per_mtok: float | None
    output_usd_per_mtok: float | None


class ThreadHead(BaseModel):
    """A conversation in a list. `updated` is unix seconds."""

    id: str
    title: str
    updated: float
    cost_usd: float


class FileHead(BaseModel):
    """A file that was sent with a question; `size` in bytes where it is known."""

    name: str
    kind: str
    size: int | None


class MadeFile(BaseModel):
    """A file that code made while Claude answered; `GET /files/{id}` has it."""

    id: str
    name: str
    mime_type: str
    bytes: int | None


class Message(BaseModel):
    """A turn of a conversation. An answer has its call, its account, what it `made`, and `running` meanwhile."""

    role: str
    text: str
    files: list[FileHead] = []
    made: list[MadeFile] = []
    call: str = ""
    usage: dict[str, object] | None = None
    running: bool = False
    incomplete: str = ""


class ThreadBody(ThreadHead):
    """A conversation, whole."""

    model: str
    messages: list[Message]


@router.get("/me.json", responses=problems())
async def me(services: TheServices, user: TheUser) -> Me:
    """Who asks."""
    from mcp_server_claude.engine.spending_limit import next_day

    users = await services.users()
    return Me(
        name=user.name,
        role=user.role,
        signed_in=await users.any(),
        spent_today_usd=await users.spent_today(user.name),
        budget_usd=user.limits.usd_per_day,
        resets_at=f"{next_day():%Y-%m-%dT%H:%M:%SZ}",
    )


@router.get("/models.json", responses=problems())
async def models(services: TheServices) -> list[ModelCard]:
    """The models that can be asked, newest first."""
    catalogue = await services.catalogue()
    default = catalogue.resolve("", default=services.settings.model or "sonnet").id
    return [_card(model, default) for model in catalogue.models if model.lifecycle != "retired"]


@router.get("/threads.json", responses=problems())
async def threads(services: TheServices, user: TheUser) -> list[ThreadHead]:
    """The user's conversations, the latest first."""
    listed = await (await services.threads()).listed(user.name, MOST)
    return [_head(thread, cost) for thread, cost in listed]


@router.get("/threads/{thread_id}.json", responses=problems(404, 422))
async def thread(thread_id: ThreadId, services: TheServices, user: TheUser) -> ThreadBody:
    """A conversation of the user's, with an answer that is being written as its last message."""
    told = await (await services.threads()).told(thread_id, user.name)
    messages = [_message(turn, told.answers.get(turn.call_id)) for turn in told.turns]
    products = await services.products()
    for message in messages:
        if message.call:
            made = await products.of(message.call, user.name)
            message.made = [MadeFile(**asdict(file)) for file in made]
    running = await (await services.jobs()).running_in(thread_id, user.name)
    if running:
        messages.append(Message(role="assistant", text="", call=running, running=True))
    head = _head(told.thread, told.cost_micros)
    return ThreadBody(**head.model_dump(), model=told.thread.model, messages=messages)


@router.delete("/threads/{thread_id}", status_code=204, responses=problems(404, 409, 422))
async def forget(thread_id: ThreadId, services: TheServices, user: TheUser) -> Response:
    """Delete a conversation and its text. The accounts stay."""
    if await (await services.jobs()).running_in(thread_id, user.name):
        raise Refused("An answer is being written in this thread. Stop it first.", kind="conflict")
    await (await services.threads()).delete(thread_id, user.name)
    return Response(status_code=204)


@router.get(
    "/files/{file_id}",
    response_class=Response,
    responses={200: {"content": {"*/*": {}}, "description": "The file."}, **problems(404, 413, 422)},
)
async def file(file_id: FileId, services: TheServices, user: TheUser) -> Response:
    """A file that code made for the user: always to be saved, never shown, since Claude's code chose what it is."""
    found = await (await services.products()).fetch(file_id, user.name)
    name = quote(replace_lone_surrogates(found.file.name), safe="")
    return Response(
        found.data,
        media_type="application/octet-stream",
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"},
    )


def _card(model: Model, default: str) -> ModelCard:
    rates = pricing.rates(model.id)
    return ModelCard(
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


def _head(thread: Thread, cost_micros: int) -> ThreadHead:
    title = thread.head if len(thread.head) <= TITLE else f"{thread.head[:TITLE]}…"
    return ThreadHead(id=thread.id, title=title, updated=thread.touched_at, cost_usd=cost_micros / 1e6)


def _message(turn: Turn, answer: Answer | None) -> Message:
    if turn.role == "user":  # what was said stands last, the files before it
        texts = [str(block.get("text") or "") for block in turn.content if block.get("type") == "text"]
        files = [FileHead(name=each.name, kind=each.kind, size=each.size) for each in shown(turn.content[:-1])]
        return Message(role="user", text=texts[-1] if texts else "", files=files)
    return Message(
        role="assistant",
        text=answer_in(turn),
        call=turn.call_id,
        usage=answer.usage if answer else None,
        incomplete=answer.incomplete if answer else "",
    )
