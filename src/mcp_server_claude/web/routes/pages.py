"""The pages: HTML that names its scripts and styles by an address that changes with them, and those files.

An address below `/static/{digest}/` may be kept for ever, since a changed file has another. Scripts import each other
relatively, so they inherit the digest and nothing needs to be built.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Header
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from mcp_server_claude.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

TEMPLATES = Path(__file__).parent.parent / "templates"
STATIC = Path(__file__).parent.parent / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}
"""Our own: `mimetypes` believes the machine's registry, in which a `.js` may be anything. Nothing else is served."""
REDIRECT_PATH = re.compile(r"/(?:t/[a-z0-9_]{1,60}|usage(?:\?[\w.~%&=+-]{1,1000})?)", re.ASCII)
"""The pages that somebody may have an address of."""
CACHE_IMMUTABLE = "public, max-age=31536000, immutable"
DIGEST_CHARS = 12

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A static file, as it is and gzipped."""

    media_type: str
    data: bytes
    gzip_data: bytes


@router.get("/")
@router.get("/t/{thread}")
async def chat_page(thread: str = "") -> HTMLResponse:  # noqa: ARG001 - the page reads it from its address
    """The chat page; what it shows it asks for itself."""
    return render_page("chat")


@router.get("/usage")
async def usage_page() -> HTMLResponse:
    """The usage page."""
    return render_page("usage")


@router.get("/signin")
async def sign_in_page(wrong: str = "", to: str = "") -> HTMLResponse:
    """The sign-in page, which leads on to `to`; `wrong` after a token that nobody knows."""
    invalid, hidden = ("true", "") if wrong else ("false", "hidden")
    return render_page("signin", hidden=hidden, invalid=invalid, to=escape(safe_redirect_path(to)))


def sign_in_url(to: str, *, wrong: bool = False) -> str:
    """The address at which who wants to go there signs in first."""
    query = {"wrong": "1"} if wrong else {}
    if (where := safe_redirect_path(to)) != "/":
        query["to"] = where
    return f"/signin?{urlencode(query)}" if query else "/signin"


def safe_redirect_path(address: str) -> str:
    """An address where somebody may go on after signing in: one of the pages, else the first of them."""
    return address if REDIRECT_PATH.fullmatch(address) else "/"


@router.get("/favicon.ico")
async def favicon() -> RedirectResponse:
    """The icon, where browsers look for one unasked."""
    return RedirectResponse(f"{static_root()}/icon.svg")


@router.get("/static/{digest}/{path:path}")
async def get_static_file(digest: str, path: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
    """A file; also under an old digest, for a page that was open while the server was replaced.

    Raises:
        RequestError: There is none of that name.
    """
    file = load_static_files().get(path)  # only what is in the folder has a name, so no path leads out of it
    if file is None:
        raise RequestError("There is no such file.", kind="not_found")
    fresh = static_root() == f"/static/{digest}"
    headers = {"Cache-Control": CACHE_IMMUTABLE if fresh else "no-store", "Vary": "Accept-Encoding"}
    if "gzip" not in accept_encoding:
        return Response(file.data, media_type=file.media_type, headers=headers)
    return Response(file.gzip_data, media_type=file.media_type, headers=headers | {"Content-Encoding": "gzip"})


def render_page(name: str, **values: str) -> HTMLResponse:
    """A page with `{{name}}` replaced by its value. Values are ours, or of a form that can do no harm.

    Raises:
        RequestError: There is none of that name.
    """
    html = load_templates().get(name)
    if html is None:
        raise RequestError("There is no such page.", kind="not_found")
    for key, value in {"static": static_root(), **values}.items():
        html = html.replace(f"{{{{{key}}}}}", value)
    return HTMLResponse(html, headers={"Cache-Control": "no-store"})


@cache
def load_templates() -> Mapping[str, str]:
    """Every page, by name."""
    return {path.stem: path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.html")}


@cache
def load_static_files() -> Mapping[str, StaticFile]:
    """Every static file, by its path."""
    paths = sorted(path for path in STATIC.rglob("*") if path.is_file() and path.suffix in MEDIA_TYPES)
    return {path.relative_to(STATIC).as_posix(): _load_static_file(path) for path in paths}


@cache
def static_root() -> str:
    """Where static files are for now: `/static/` and the first digits of a SHA-256 over their names and contents."""
    seen = hashlib.sha256()
    for path, file in load_static_files().items():
        seen.update(f"{path}\0{len(file.data)}\0".encode() + file.data)
    return f"/static/{seen.hexdigest()[:DIGEST_CHARS]}"


def _load_static_file(path: Path) -> StaticFile:
    data = path.read_bytes()
    return StaticFile(MEDIA_TYPES[path.suffix], data, gzip.compress(data, mtime=0))
