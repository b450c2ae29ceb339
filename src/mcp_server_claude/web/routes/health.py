"""For those who run the server: is it up (`/healthz`), can it answer (`/readyz`), and what has it done (`/metrics`).

The first two are open to everybody and say nothing that is worth knowing: a word for what is wrong, never where.
"""

from __future__ import annotations

import hmac
import math
import time
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

import anyio
import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from mcp_server_claude.anthropic_api.platforms import find_credential
from mcp_server_claude.errors import ConfigurationError, RequestError
from mcp_server_claude.store import StoreError, process_locks
from mcp_server_claude.telemetry import metrics
from mcp_server_claude.web.openapi import BEARER_AUTH, openapi_errors
from mcp_server_claude.web.route_dependencies import ServicesDep

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mcp_server_claude.services.lazy_services import Services
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.telemetry.prometheus import PrometheusSink
    from mcp_server_claude.users.user import User

CACHE_TTL_S = 1.0
"""Seconds that a finding is good for, however many ask."""
PROBE_TIMEOUT_S = 2.0
"""Seconds that opening and writing may take before they count as broken."""
PROBE_PROCESS = "readyz"


class ReadinessCheck:
    """What stands in the way of answering calls, looked at once a second at most."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._reasons: list[str] = []
        self._valid_until = -math.inf
        self._check_lock = anyio.Lock()

    async def failure_reasons(self) -> list[str]:
        """A word for each thing that is wrong: `settings`, `credential`, `opening`, `store`."""
        async with self._check_lock:
            if time.monotonic() >= self._valid_until:
                self._reasons = [reason async for reason in self._run_checks()]
                self._valid_until = time.monotonic() + CACHE_TTL_S
            return self._reasons

    async def _run_checks(self) -> AsyncGenerator[str]:
        if self._services.settings.problems:
            yield "settings"
        if not await anyio.to_thread.run_sync(_has_credential, self._services.settings):
            yield "credential"
        store: Store | None = None
        with anyio.move_on_after(PROBE_TIMEOUT_S):
            store = await self._services.store()
        if store is None:
            yield "opening"
        elif not await _is_store_writable(store):
            yield "store"


@asynccontextmanager
async def _operations_lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Count calls for Prometheus as long as the app runs, where its package is installed."""
    services = cast("Services", app.state.services)
    app.state.readiness, app.state.metrics = ReadinessCheck(services), None
    if find_spec("prometheus_client") is None:
        yield
        return
    from mcp_server_claude.telemetry.prometheus import PrometheusSink  # the extra

    app.state.metrics = PrometheusSink(users=services.settings.telemetry_users)
    with metrics.add_sink(app.state.metrics):
        yield


router = APIRouter(tags=["operations"], lifespan=_operations_lifespan)


@router.get("/healthz")
async def get_health() -> Response:
    """Answer, which is all that it takes: the process is up and its event loop turns."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", responses={503: {"description": "Not ready; `reasons` says in a word each what is missing."}})
async def get_readiness(request: Request) -> Response:
    """Whether calls can be answered: the store can be written, there is a credential, and the server is not ending."""
    reasons = await cast("ReadinessCheck", request.app.state.readiness).failure_reasons()
    draining = cast("anyio.Event", request.app.state.draining)
    if draining.is_set():
        reasons = [*reasons, "ending"]
    if reasons:
        return JSONResponse({"status": "not ready", "reasons": reasons}, 503)
    return JSONResponse({"status": "ready"})


@router.get(
    "/metrics",
    dependencies=[BEARER_AUTH],
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {}}, "description": "Measurements, as Prometheus reads them."},
        **openapi_errors(404),
        403: {"description": "Only for operators, and for whoever has `MCP_CLAUDE_METRICS_TOKEN`."},
        404: {"description": "The extra `prometheus` is not installed."},
    },
)
async def get_metrics(request: Request, services: ServicesDep) -> Response:
    """Tokens, seconds and dollars of all calls since the start, for Prometheus.

    Raises:
        RequestError: It is not for the one who asks, or there is nothing that counts.
    """
    user = cast("User | None", request.scope.get("state", {}).get("member"))
    if not has_metrics_token(request.headers.get("authorization", ""), services.settings) and (
        user is None or user.role != "operator"
    ):
        raise RequestError("The metrics are for operators.", kind="forbidden")
    metrics: PrometheusSink | None = request.app.state.metrics
    if metrics is None:
        raise RequestError("There are no metrics: install mcp-server-claude[prometheus].", kind="not_found")
    page, media_type = metrics.render_metrics(request.headers.get("accept", ""))
    return Response(page, headers={"Content-Type": media_type})


def has_metrics_token(authorization: str, settings: Settings) -> bool:
    """Whether an `Authorization` header holds the token that may read the metrics and nothing else."""
    scheme, _, token = authorization.partition(" ")
    wanted = settings.metrics_token.get_secret_value() if settings.metrics_token else ""
    if not wanted or scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(token.strip().encode("utf-8", "replace"), wanted.encode("utf-8", "replace"))


def _has_credential(settings: Settings) -> bool:
    try:
        find_credential(settings)
    except ConfigurationError:
        return False
    return True


async def _is_store_writable(store: Store) -> bool:
    """Whether something can be committed to disk, in the file that the next process will open."""
    if not await anyio.to_thread.run_sync(store.file_is_current):
        return False
    try:
        with anyio.fail_after(PROBE_TIMEOUT_S):
            await store.write(_write_probe)
    except (StoreError, TimeoutError):
        return False
    return True


def _write_probe(tx: Transaction) -> None:
    process_locks.register_process(tx, PROBE_PROCESS)
    process_locks.unregister_process(tx, PROBE_PROCESS)
