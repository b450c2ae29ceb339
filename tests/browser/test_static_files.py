"""What the pages are made of, as any client gets it. No browser is needed for these."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.browser.page_server import PageServer

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "src" / "mcp_server_claude" / "web" / "static"
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
}


def fetch(site: PageServer, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Exactly this path: nothing normalises it on the way."""
    connection = HTTPConnection(site.url.removeprefix("http://"), timeout=30)
    connection.putrequest("GET", path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def root_of(site: PageServer) -> str:
    found = re.search(rb'href="(/static/[0-9a-f]{12})/', fetch(site, "/signin")[2])
    assert found
    return found[1].decode()


async def test_every_file_is_served_under_its_digest_for_ever(site: PageServer) -> None:
    root = root_of(site)
    paths = [path for path in STATIC.rglob("*") if path.suffix in TYPES]
    assert len(paths) > 20
    for path in paths:
        status, headers, data = fetch(site, f"{root}/{path.relative_to(STATIC).as_posix()}")
        assert (status, data) == (200, path.read_bytes())
        assert headers["content-type"] == TYPES[path.suffix]
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
        assert headers["x-content-type-options"] == "nosniff"


async def test_clients_that_accept_gzip_get_gzip(site: PageServer) -> None:
    _, headers, data = fetch(site, f"{root_of(site)}/js/chat.js", Accept_Encoding="gzip, br")
    assert headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in headers["vary"]
    assert gzip.decompress(data) == (STATIC / "js" / "chat.js").read_bytes()


async def test_an_old_digest_is_still_served_but_not_cached(site: PageServer) -> None:
    status, headers, data = fetch(site, "/static/000000000000/js/chat.js")
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert data == (STATIC / "js" / "chat.js").read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "../pages.py",
        "js/../../pages.py",
        "%2e%2e/pages.py",
        "..%2fpages.py",
        "..%5cpages.py",
        "js/%2e%2e/%2e%2e/pages.py",
        "//etc/passwd",
        "%00",
        "js",
        "",
        "vendor/vendor.lock",
        "js/chat.js/",
        "js/chat.js%00.css",
    ],
)
async def test_nothing_else_is_served(site: PageServer, path: str) -> None:
    status, headers, data = fetch(site, f"{root_of(site)}/{path}")
    assert status == 404
    assert headers["content-type"] == "application/json"
    assert b"import" not in data


async def test_pages_are_not_cached_and_reference_only_existing_files(site: PageServer) -> None:
    for page in (ROOT / "src" / "mcp_server_claude" / "web" / "templates").glob("*.html"):
        html = page.read_text(encoding="utf-8")
        for name in re.findall(r"\{\{static\}\}/([^\"]+)", html):
            assert (STATIC / name).is_file(), f"{page.name} names {name}"
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=", html), page.name
    status, headers, body = fetch(site, "/signin")
    assert (status, headers["cache-control"]) == (200, "no-store")
    assert b"{{" not in body


async def test_every_module_that_the_chat_page_needs_is_fetched_at_once() -> None:
    html = (STATIC.parent / "templates" / "chat.html").read_text(encoding="utf-8")
    needed, seen = ["js/chat.js"], set[str]()
    while needed:
        name = needed.pop()
        if name not in seen:
            seen.add(name)
            script = (STATIC / name).read_text(encoding="utf-8") if name.startswith("js/") else ""
            imports = re.findall(r"^import .*? from '([^']+)'", script, re.MULTILINE)
            needed += [
                (STATIC / name).parent.joinpath(each).resolve().relative_to(STATIC).as_posix() for each in imports
            ]
    assert set(re.findall(r"\{\{static\}\}/([^\"]+\.js)", html)) == seen


async def test_the_icon_is_served_where_browsers_request_it(site: PageServer) -> None:
    status, headers, _ = fetch(site, "/favicon.ico")
    assert (status, headers["location"]) == (307, f"{root_of(site)}/icon.svg")


async def test_vendored_files_are_those_that_were_fetched() -> None:
    checked = subprocess.run(  # noqa: ASYNC221 - it takes a tenth of a second
        [sys.executable, ROOT / "scripts" / "vendor.py", "--check"], check=False, capture_output=True, text=True
    )
    assert (checked.stderr, checked.returncode) == ("", 0)
