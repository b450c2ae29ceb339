"""`/jobs`: the background jobs of a user, their progress as events, and their output as a download."""

from __future__ import annotations

import json
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent

from mcp_server_claude.calls.answer_feed import KEEP_ALIVE_INTERVAL_S
from mcp_server_claude.calls.ask_request import CallOrigin
from mcp_server_claude.jobs.call_spec import approval_digest
from mcp_server_claude.jobs.job_snapshot import MAP_TOOL
from mcp_server_claude.web.openapi import BEARER_AUTH, STATUS_DESCRIPTIONS, openapi_errors
from mcp_server_claude.web.route_dependencies import AppStateDep, ServicesDep, UserDep
from mcp_server_claude.web.routes.chat import STREAM_HEADERS
from mcp_server_claude.web.routes.chat_approval import check_approval_of, check_cost_approval
from mcp_server_claude.web.routes.job_request import JobRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from mcp_server_claude.jobs.background_jobs import BackgroundJobs
    from mcp_server_claude.jobs.job_snapshot import JobSnapshot
    from mcp_server_claude.jobs.map_estimates import MapEstimate
    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.users.user import User

MAX_LISTED_JOBS = 100
EVENT_INTERVAL_S = 0.5
"""Seconds between two looks at a job whose progress is read."""
SHUTDOWN_GRACE_S = 2.0
"""Seconds for readers to receive the last events of a shutdown."""

router = APIRouter(tags=["jobs"], dependencies=[BEARER_AUTH])

JobId = Annotated[str, Path(description="A job's id, `j_…`.", max_length=60)]


class JobModel(BaseModel):
    """A background job. Times are unix seconds; the counts are of its items, by state.

    `incomplete` of the `done` ones were cut; `interruptions` is how often a server died while it answered an item.
    """

    id: str
    tool: str
    state: Literal["running", "complete", "incomplete", "cancelled"]
    reason: str
    model: str
    title: str
    batch: bool
    created_at: float
    ended_at: float | None
    output: str
    call_id: str
    items: int
    todo: int
    running: int
    done: int
    failed: int
    cancelled: int
    incomplete: int
    interruptions: int
    unpriced: int
    cost_usd: float | None


class JobListModel(BaseModel):
    """The newest jobs, the newest first."""

    jobs: list[JobModel]


class VariantEstimateModel(BaseModel):
    """The estimated cost of a job in one way, in US dollars; null if the price is unknown.

    `typical_usd` is for short answers, `max_usd` for the longest. `item_usd` is the least, the median and the most that
    an item costs with a short answer.
    """

    variant: str
    model: str
    input_tokens: int
    input_usd: float | None
    typical_usd: float | None
    max_usd: float | None
    item_usd: list[float] = []


class ItemEstimateModel(BaseModel):
    """The estimated cost of an item by its number, from 0 on, and its name."""

    item: int
    name: str
    input_tokens: int
    input_usd: float | None
    typical_usd: float | None
    max_usd: float | None


class JobEstimateModel(BaseModel):
    """The estimated cost of a job that was not started: as requested first, then in other ways.

    `counted` of its items were counted by the API, the others measured by their length. `shared_tokens` at the
    beginning of each are written to the prompt cache once.
    """

    count: int = 1
    counted: int = 1
    shared_tokens: int = 0
    variants: list[VariantEstimateModel]
    most_expensive: list[ItemEstimateModel] = []
    items: list[ItemEstimateModel] = []


class JobStopResponse(BaseModel):
    """`stopping` is true if the job was running and is now being stopped."""

    stopping: bool


@router.get("/jobs", responses=openapi_errors(400, 401, 421, 422, 500, 503), summary="List background jobs")
async def get_jobs(
    services: ServicesDep,
    user: UserDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED_JOBS, description="Jobs at most.")] = 20,
) -> JobListModel:
    """The newest jobs of the user with their progress and cost."""
    return JobListModel(jobs=[_job_model(each) for each in await services.jobs.latest_jobs(user.name, limit)])


@router.post(
    "/jobs",
    status_code=202,
    response_model=JobModel,
    responses={
        200: {"model": JobEstimateModel, "description": "With `dry_run`: the estimated cost. Nothing was started."},
        202: {"headers": {"Location": {"description": "The path of the job.", "schema": {"type": "string"}}}},
        **openapi_errors(*STATUS_DESCRIPTIONS),
    },
    summary="Start a background job",
)
async def post_job(job_request: JobRequest, request: Request, services: ServicesDep, user: UserDep) -> JSONResponse:
    """Answer a question, or one prompt over many items, in the background.

    The job goes on after this request, and in the next server after this one; `GET /jobs/{id}` follows it. The same
    request with items again continues its job: only what is missing is asked. A job that may cost more than
    `MCP_CLAUDE_CONFIRM_ABOVE_USD` is the error 402 of kind `confirmation`; the same request with the error's `approval`
    is started.
    """
    client = request.headers.get("user-agent", "")
    start = _start_map if job_request.has_items else _start_question
    started = await start(services, job_request, user, client)
    if isinstance(started, JobEstimateModel):
        return JSONResponse(started.model_dump())
    location = {"Location": f"/jobs/{started.record.id}"}
    return JSONResponse(_job_model(started).model_dump(), status_code=202, headers=location)


@router.get(
    "/jobs/{job_id}",
    response_model=JobModel,
    responses=openapi_errors(400, 401, 404, 421, 422, 500, 503),
    summary="Read a background job",
)
async def get_job(
    job_id: JobId, request: Request, state: AppStateDep, services: ServicesDep, user: UserDep
) -> Response | JobModel:
    """A job as it stands now. With `Accept: text/event-stream` its progress, until it ends: events `progress` and then
    `done`, each with the job as JSON. The text of a question is read at `/chat/{call_id}`.
    """
    snapshot = await services.jobs.read_job(job_id, user.name)
    if "text/event-stream" not in request.headers.get("accept", ""):
        return _job_model(snapshot)
    return EventSourceResponse(
        _job_events(services.jobs, snapshot),
        headers=STREAM_HEADERS,
        ping=KEEP_ALIVE_INTERVAL_S,
        shutdown_event=state.draining,
        shutdown_grace_period=SHUTDOWN_GRACE_S,
    )


@router.post(
    "/jobs/{job_id}/stop",
    responses=openapi_errors(400, 401, 403, 404, 408, 413, 415, 421, 422, 500, 503),
    summary="Stop a background job",
)
async def post_job_stop(job_id: JobId, services: ServicesDep, user: UserDep) -> JobStopResponse:
    """Stop a job. What is answered is kept, and billed."""
    await services.jobs.read_job(job_id, user.name)
    return JobStopResponse(stopping=await services.jobs.stop_job(job_id, user.name))


@router.get(
    "/jobs/{job_id}/output",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/x-ndjson": {}, "text/csv": {}}, "description": "One line an item, in order."},
        **openapi_errors(400, 401, 404, 421, 422, 500, 503),
    },
    summary="Download the answers of a job",
)
async def get_job_output(
    job_id: JobId,
    services: ServicesDep,
    user: UserDep,
    format: Annotated[Literal["jsonl", "csv"], Query(description="The form of the lines.")] = "jsonl",  # noqa: A002
) -> Response:
    """The items with their answers, as far as they are there."""
    await services.jobs.read_job(job_id, user.name)
    return StreamingResponse(
        services.jobs.output_pages(job_id, user.name, as_csv=format == "csv"),
        media_type="text/csv; charset=utf-8" if format == "csv" else "application/x-ndjson",
        headers={"Content-Disposition": f'attachment; filename="{job_id}.{format}"'},
    )


async def _start_question(
    services: ServiceAccess, job_request: JobRequest, user: User, client: str
) -> JobSnapshot | JobEstimateModel:
    call = await job_request.build_call(
        CallOrigin(tool="chat", source="http", client=client, user=user), batch=job_request.batch
    )
    if job_request.dry_run:
        estimates = await services.threads.estimate_call_cost(call)
        fields = VariantEstimateModel.model_fields.keys() - {"item_usd"}
        variants = [VariantEstimateModel(**{name: getattr(each, name) for name in fields}) for each in estimates]
        return JobEstimateModel(variants=variants)
    await check_cost_approval(services, call, job_request.approval)
    return await services.jobs.start_ask(call)


async def _start_map(
    services: ServiceAccess, job_request: JobRequest, user: User, client: str
) -> JobSnapshot | JobEstimateModel:
    request = await job_request.build_map(CallOrigin(tool=MAP_TOOL, source="http", client=client, user=user))
    if job_request.dry_run:
        estimates = await services.jobs.estimate_map(request)
        return await anyio.to_thread.run_sync(lambda: JobEstimateModel.model_validate(estimates.as_json()))

    async def variants() -> Sequence[MapEstimate]:
        return (await services.jobs.estimate_map(request)).variants

    digest_of = partial(approval_digest, request.template, request.items, request.max_usd)
    await check_approval_of(services, digest_of, variants, request.max_usd, job_request.approval)
    return await services.jobs.start_map(request)


async def _job_events(jobs: BackgroundJobs, snapshot: JobSnapshot) -> AsyncGenerator[ServerSentEvent]:
    """The changes of a job, and its end."""
    sent = ""
    async with aclosing(jobs.watch_job(snapshot.record.id, snapshot.record.user, EVENT_INTERVAL_S)) as snapshots:
        async for each in snapshots:
            data = json.dumps(each.as_json(), ensure_ascii=False)
            if data != sent:
                yield ServerSentEvent(event="done" if each.is_closed else "progress", data=data, sep="\n")
                sent = data


def _job_model(snapshot: JobSnapshot) -> JobModel:
    return JobModel.model_validate(snapshot.as_json())
