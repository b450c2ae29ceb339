"""Health and metrics for operators: liveness (`/healthz`), readiness (`/readyz`), Prometheus (`/metrics`).

The first two are public, so they only name what is wrong, in one word, without a path or a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from mcp_server_claude.errors import RequestError
from mcp_server_claude.web.auth.metrics_token import has_metrics_token
from mcp_server_claude.web.openapi import BEARER_AUTH, openapi_errors
from mcp_server_claude.web.route_dependencies import AppStateDep

if TYPE_CHECKING:
    from mcp_server_claude.users.user import User

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def get_health() -> Response:
    """Answer while the process runs and its event loop turns."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz", responses={503: {"description": "Not ready; `reasons` has one word for each failed check."}})
async def get_readiness(state: AppStateDep) -> Response:
    """Check that calls can be answered: settings, credential, a writable store, and no shutdown under way."""
    reasons = await state.readiness.failure_reasons()
    if state.draining.is_set():
        reasons = [*reasons, "ending"]
    if reasons:
        return JSONResponse({"status": "not ready", "reasons": reasons}, 503)
    return JSONResponse({"status": "ready"})


@router.get(
    "/metrics",
    dependencies=[BEARER_AUTH],
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {}}, "description": "Measurements in Prometheus' text format."},
        **openapi_errors(404),
        403: {"description": "The caller is neither an operator nor has `MCP_CLAUDE_METRICS_TOKEN`."},
        404: {"description": "The extra `prometheus` is not installed."},
    },
)
async def get_metrics(request: Request, state: AppStateDep) -> Response:
    """Tokens, seconds and dollars of all calls since the process started, for Prometheus.

    Raises:
        RequestError: The caller is not an operator and has no metrics token, or the extra is not installed.
    """
    user = cast("User | None", request.scope.get("state", {}).get("user"))
    is_operator = user is not None and user.role == "operator"
    if not is_operator and not has_metrics_token(request.headers.get("authorization", ""), state.services.settings):
        raise RequestError("The metrics are for operators.", kind="forbidden")
    if state.prometheus is None:
        raise RequestError("There are no metrics: install mcp-server-claude[prometheus].", kind="not_found")
    page, media_type = state.prometheus.render_metrics(request.headers.get("accept", ""))
    return Response(page, headers={"Content-Type": media_type})
