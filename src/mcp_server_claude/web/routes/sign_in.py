"""Signing in and out of the pages: a token becomes a session in a cookie."""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.datastructures import MutableHeaders

from mcp_server_claude.errors import RequestError
from mcp_server_claude.web.route_dependencies import ServicesDep
from mcp_server_claude.web.routes.pages import render_page
from mcp_server_claude.web.session_cookie import (
    delete_session_cookie,
    is_same_origin_request,
    session_secret,
    set_session_cookie,
    uses_tls,
)
from mcp_server_claude.web.sign_in_redirect import safe_redirect_path, sign_in_url

MAX_FORM_BYTES = 32_768

router = APIRouter(include_in_schema=False)


@router.get("/signin")
async def sign_in_page(wrong: str = "", to: str = "") -> HTMLResponse:
    """The sign-in page, which leads on to `to`; `wrong` shows that the token was rejected."""
    invalid, hidden = ("true", "") if wrong else ("false", "hidden")
    return render_page("signin", hidden=hidden, invalid=invalid, to=escape(safe_redirect_path(to)))


@router.post("/signin")
async def post_sign_in(request: Request, services: ServicesDep) -> Response:
    """Exchange a token for a session, in a cookie that scripts cannot read."""
    _require_same_origin(request)
    form = await _read_form(request)
    to = safe_redirect_path(form.get("to", ""))
    session = await services.users.sign_in(form.get("token", ""))
    if session is None:
        return RedirectResponse(sign_in_url(to, wrong=True), 303)
    secret, _ = session
    response = RedirectResponse(to, 303)
    max_age_s = round(services.settings.session_days * 86_400)
    set_session_cookie(response, secret, max_age_s=max_age_s, secure=uses_tls(request.scope, services.settings))
    return response


@router.post("/signout")
async def post_sign_out(request: Request, services: ServicesDep) -> Response:
    """End the session, in the store and in the browser."""
    _require_same_origin(request)
    secure = uses_tls(request.scope, services.settings)
    if secret := session_secret(request.headers, secure=secure):
        await services.users.sign_out(secret)
    response = RedirectResponse("/signin", 303)
    delete_session_cookie(response, secure=secure)
    MutableHeaders(raw=response.raw_headers)["Clear-Site-Data"] = '"storage"'
    return response


def _require_same_origin(request: Request) -> None:
    if not is_same_origin_request(request.headers):
        raise RequestError("Sign in and out on this server's own pages.", kind="forbidden")


async def _read_form(request: Request) -> dict[str, str]:
    """The first value of each field of a form.

    Raises:
        RequestError: The form is longer than `MAX_FORM_BYTES`.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise RequestError("The form is too long.", kind="too_large")
    fields = parse_qs(body.decode("utf-8", "replace"))
    return {name: values[0] for name, values in fields.items()}
