"""The pages and their static files.

A page names its scripts and styles by an address below `/static/{digest}/`, which browsers may cache for ever, because
a changed file changes the digest. Scripts import each other relatively, so they inherit the digest without a build
step.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
"""`mimetypes` reads the machine's registry, where `.js` can be anything. Other files are not served."""
CACHE_IMMUTABLE = "public, max-age=31536000, immutable"
DIGEST_CHARS = 12

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A static file and its gzipped bytes."""

    media_type: str
    data: bytes
    gzip_data: bytes


@router.get("/")
@router.get("/t/{thread}")
async def chat_page(thread: str = "") -> HTMLResponse:  # noqa: ARG001 - the page reads it from its own address
    """The chat page, which fetches its data itself."""
    return render_page("chat")


@router.get("/usage")
async def usage_page() -> HTMLResponse:
    """The usage page."""
    return render_page("usage")


@router.get("/favicon.ico")
async def favicon() -> RedirectResponse:
    """The icon, at the address that browsers try by themselves."""
    return RedirectResponse(f"{static_root()}/icon.svg")


@router.get("/static/{digest}/{path:path}")
async def get_static_file(digest: str, path: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
    """A static file; also under an old digest, for a page that was open during an upgrade.

    Raises:
        RequestError: There is no such file.
    """
    file = load_static_files().get(path)  # a lookup by name, so no path leads out of the folder
    if file is None:
        raise RequestError("There is no such file.", kind="not_found")
    is_current = static_root() == f"/static/{digest}"
    headers = {"Cache-Control": CACHE_IMMUTABLE if is_current else "no-store", "Vary": "Accept-Encoding"}
    if "gzip" not in accept_encoding:
        return Response(file.data, media_type=file.media_type, headers=headers)
    return Response(file.gzip_data, media_type=file.media_type, headers=headers | {"Content-Encoding": "gzip"})


def render_page(name: str, **values: str) -> HTMLResponse:
    """A page with each `{{name}}` replaced by its value; callers escape values that are not constants.

    Raises:
        RequestError: There is no such page.
    """
    html = load_templates().get(name)
    if html is None:
        raise RequestError("There is no such page.", kind="not_found")
    for key, value in {"static": static_root(), **values}.items():
        html = html.replace(f"{{{{{key}}}}}", value)
    return HTMLResponse(html, headers={"Cache-Control": "no-store"})


@cache
def load_templates() -> Mapping[str, str]:
    """The templates by name."""
    return {path.stem: path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.html")}


@cache
def load_static_files() -> Mapping[str, StaticFile]:
    """The static files by path."""
    paths = sorted(path for path in STATIC.rglob("*") if path.is_file() and path.suffix in MEDIA_TYPES)
    return {path.relative_to(STATIC).as_posix(): _load_static_file(path) for path in paths}


@cache
def static_root() -> str:
    """The current root of the static files: `/static/` and the start of a SHA-256 over their names and contents."""
    digest = hashlib.sha256()
    for path, file in load_static_files().items():
        digest.update(f"{path}\0{len(file.data)}\0".encode() + file.data)
    return f"/static/{digest.hexdigest()[:DIGEST_CHARS]}"


def _load_static_file(path: Path) -> StaticFile:
    data = path.read_bytes()
    return StaticFile(MEDIA_TYPES[path.suffix], data, gzip.compress(data, mtime=0))
