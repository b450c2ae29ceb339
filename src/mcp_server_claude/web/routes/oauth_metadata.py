"""The metadata of this server as a protected resource, from which MCP clients learn the authorization server."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from mcp_server_claude.web.auth.oauth_hint import no_authorization_server
from mcp_server_claude.web.auth.oidc_tokens import MCP_PATH, METADATA_PATH, check_oidc_settings, resource_metadata
from mcp_server_claude.web.route_dependencies import AppStateDep

NO_PROVIDER: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no identity provider; the operator gives out tokens."},
}

router = APIRouter(tags=["identity"])


@router.get(METADATA_PATH, responses=NO_PROVIDER)
@router.get(METADATA_PATH + MCP_PATH, responses=NO_PROVIDER)
async def get_resource_metadata(state: AppStateDep) -> Response:
    """Name the authorization server that issues tokens for this server (RFC 9728).

    Raises:
        RequestError: There is no identity provider.
    """
    settings = state.services.settings
    if not settings.oidc_issuer:
        raise no_authorization_server(settings)
    check_oidc_settings(settings)
    return JSONResponse(resource_metadata(settings), headers={"Cache-Control": "max-age=300"})
