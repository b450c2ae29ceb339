"""What the HTTP server rejects: foreign names and origins, invalid tokens, ids of others, bodies that are too large."""

from __future__ import annotations

import asyncio
import json
import re
from html import escape
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from mcp_server_claude.web.fastapi_app import ROUTE_MODULES
from mcp_server_claude.web.middleware.security import CSP
from support.http_server import NO_TLS, http_server_thread
from support.http_server import RunningHttpServer as Door

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
SOMETHING = {"message": "hello", "jsonrpc": "2.0", "id": 1, "method": "tools/list"}
OPEN = {"/healthz", "/readyz", "/signin", "/favicon.ico"}


@pytest.fixture
async def server(upstream: Simulator, tmp_path: Path) -> AsyncIterator[Door]:
    """A server without users, on loopback."""
    async with http_server_thread(tmp_path / "data", upstream.url) as server:
        yield server


def routes(server: Door) -> list[tuple[str, str]]:
    """Every method and path that the server knows, with something in place of each parameter."""
    assert server.server is not None
    app = server.server.app
    found: list[tuple[str, str]] = []
    for route in [*app.routes, *(route for part in ROUTE_MODULES for route in part.router.routes)]:
        if isinstance(route, (APIRoute, Route)):
            path = re.sub(r"\{[^}]*\}", "c_00000000", route.path)
            found += [(method, path) for method in sorted(route.methods or {"GET", "POST", "DELETE"})]
    assert ("POST", "/chat") in found
    assert any(path == "/mcp" for _, path in found)
    return found


async def ask(server: Door, method: str, path: str, **headers: str) -> httpx2.Response:
    body = json.dumps(SOMETHING) if method in {"POST", "PUT", "PATCH"} else None
    async with httpx2.AsyncClient(verify=NO_TLS, base_url=server.url, timeout=100) as client:
        return await client.request(method, path, content=body, headers=JSON | headers)


def spent(upstream: Simulator) -> list[object]:
    """The requests that cost something."""
    return [record for record in upstream.requests if record.path == "/v1/messages"]


def kind(response: httpx2.Response) -> str:
    return cast("str", response.json()["error"]["kind"])


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "evil.example:8000",
        "localhost:1:2",
        "user@localhost",
        "localhost/evil",
        "[::1",
        "",
        "10.0.0.1",
        "0x7f.1",
    ],
)
async def test_no_route_answers_to_a_foreign_host(server: Door, upstream: Simulator, host: str) -> None:
    for method, path in routes(server):
        response = await ask(server, method, path, host=host)
        assert response.status_code in {400, 421}, (method, path, response.text)
        assert response.status_code == 400 or method == "HEAD" or kind(response) == "wrong_host"
    assert not spent(upstream)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1", "127.0.0.1:80", "[::1]:8000"])
async def test_the_server_answers_to_the_names_of_its_machine(server: Door, host: str) -> None:
    assert (await ask(server, "GET", "/me.json", host=host)).status_code == 200


@pytest.mark.parametrize(
    "given", [{"allowed_hosts": ("claude.example.com",)}, {"public_url": "https://claude.example.com:8443/"}]
)
async def test_the_server_answers_to_configured_names(
    upstream: Simulator, tmp_path: Path, given: dict[str, Any]
) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, **given) as server:
        assert (await ask(server, "GET", "/me.json", host="claude.example.com")).status_code == 200
        assert (await ask(server, "GET", "/me.json", host="claude.example.com:443")).status_code == 200
        assert (await ask(server, "GET", "/me.json", host="xclaude.example.com")).status_code == 421


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1:1",
        "file://",
        "x",
        "http://",
        "http://[::1",
    ],
)
async def test_no_route_answers_a_page_of_another_site(server: Door, upstream: Simulator, origin: str) -> None:
    for method, path in routes(server):
        response = await ask(server, method, path, origin=origin)
        assert response.status_code == 403, (method, path, response.text)
        assert "access-control-allow-origin" not in response.headers
    assert not spent(upstream)


async def test_only_a_page_of_a_configured_origin_may_call(upstream: Simulator, tmp_path: Path) -> None:
    tools = "https://tools.example"
    async with http_server_thread(tmp_path / "data", upstream.url, allowed_origins=(tools,)) as server:
        preflight = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        allowed = await ask(server, "OPTIONS", "/chat", origin=tools, **preflight)
        refused = await ask(server, "OPTIONS", "/chat", origin="https://evil.example", **preflight)
        answer = await ask(server, "GET", "/me.json", origin=tools)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, tools)
    assert "access-control-allow-credentials" not in allowed.headers
    assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (403, False)
    assert answer.headers["access-control-allow-origin"] == tools


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_request_without_a_preflight_cannot_cause_cost(
    server: Door, upstream: Simulator, content_type: str
) -> None:
    for method, path in routes(server):
        if method == "POST" and path not in {"/signin", "/signout"}:
            response = await ask(server, method, path, **{"content-type": content_type})
            assert (response.status_code, kind(response)) == (415, "media_type"), path
    assert not spent(upstream)


async def test_without_users_only_this_machine_is_served_and_no_request_of_a_proxy(server: Door) -> None:
    assert (await ask(server, "GET", "/me.json")).json()["name"] == "local"
    for header in ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip"):
        response = await ask(server, "GET", "/me.json", **{header: "203.0.113.9"})
        assert (response.status_code, kind(response)) == (401, "unauthorized")


async def test_with_users_no_route_answers_without_a_token(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, users=("ada",)) as server:
        for method, path in routes(server):
            if path in OPEN or path.startswith(("/static", "/.well-known")) or path == "/signout":
                continue
            response = await ask(server, method, path)
            page = method == "GET" and path in {"/", "/usage", "/t/c_00000000"}
            assert response.status_code == (303 if page else 401), (method, path, response.text)
            assert page or response.headers["www-authenticate"].startswith("Bearer")
            goes_on = {"/": "/signin", "/usage": "/signin?to=%2Fusage", "/t/c_00000000": "/signin?to=%2Ft%2Fc_00000000"}
            assert not page or response.headers["location"] == goes_on[path]
    assert not spent(upstream)


async def test_a_wrong_token_counts_as_no_token(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, users=("ada",)) as server:
        good = server.tokens["ada"]
        assert (await ask(server, "GET", "/me.json", authorization=f"Bearer {good}")).json()["name"] == "ada"
        assert (await ask(server, "GET", "/me.json", authorization=f"bearer  {good}")).status_code == 200
        for wrong in (
            f"Bearer {good[:-1]}",
            f"Bearer {good}x",
            f"Bearer {good.swapcase()}",
            f"Basic {good}",
            good,
            "Bearer",
            "Bearer null",
            f"Bearer {'a' * 7000}",
            "Bearer ' or 1=1 --",
            "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.",
        ):
            response = await ask(server, "GET", "/me.json", authorization=wrong)
            assert response.status_code in {400, 401}, wrong
            assert good not in response.text


async def test_the_ids_of_another_user_are_not_found(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, users=("ada", "eve")) as server:
        ada = {"authorization": f"Bearer {server.tokens['ada']}"}
        eve = {"authorization": f"Bearer {server.tokens['eve']}"}
        async with httpx2.AsyncClient(verify=NO_TLS, base_url=server.url, timeout=30) as client:
            answer = await client.post("/chat", json={"message": "a secret of ada's"}, headers=ada)
            begun = json.loads(answer.text.split("event: start")[1].split("data:")[1].splitlines()[0])
            call, thread = begun["call"], begun["thread"]
            assert (await client.get(f"/threads/{thread}.json", headers=ada)).status_code == 200
            for method, path in (
                ("GET", f"/threads/{thread}.json"),
                ("DELETE", f"/threads/{thread}"),
                ("GET", f"/chat/{call}"),
                ("POST", f"/chat/{call}/stop"),
            ):
                body: dict[str, str] | None = {} if method == "POST" else None
                response = await client.request(method, path, headers=eve, json=body)
                assert (response.status_code, kind(response)) == (404, "not_found"), path
                assert "secret" not in response.text
            assert (await client.get("/threads.json", headers=eve)).json() == []
            followed = await client.post("/chat", json={"message": "and?", "thread": thread}, headers=eve)
            assert followed.status_code == 404
            assert (await client.get("/usage.json?user=ada", headers=eve)).status_code == 403
            assert (await client.get(f"/threads/{thread}.json", headers=ada)).status_code == 200, "it was deleted"


async def test_a_session_is_valid_only_for_the_pages_of_this_server(upstream: Simulator, tmp_path: Path) -> None:
    async with (
        http_server_thread(tmp_path / "data", upstream.url, users=("ada",)) as server,
        httpx2.AsyncClient(verify=NO_TLS, base_url=server.url, timeout=30) as client,
    ):
        form = {"content-type": "application/x-www-form-urlencoded"}
        ours = {"sec-fetch-site": "same-origin"}
        token = server.tokens["ada"]
        foreign = await client.post(
            "/signin", content=f"token={token}", headers=form | {"sec-fetch-site": "cross-site"}
        )
        assert foreign.status_code == 403
        wrong = await client.post("/signin", content="token=nobody", headers=form | ours)
        assert (wrong.status_code, wrong.headers["location"]) == (303, "/signin?wrong=1")
        signed = await client.post("/signin", content=f"token={token}", headers=form | ours)
        cookie = signed.headers["set-cookie"]
        assert "httponly" in cookie.lower()
        assert "samesite=lax" in cookie.lower()
        assert token not in cookie

        assert (await client.get("/me.json")).json()["name"] == "ada"
        for site in ("cross-site", "same-site", "none", ""):
            stop = await client.post("/chat", json={"message": "x"}, headers={"sec-fetch-site": site})
            assert (stop.status_code, kind(stop)) == (403, "forbidden"), site
        bare = await client.post("/chat", json={"message": "x"})
        assert bare.status_code == 403, "a request without Fetch Metadata or Origin is no page of ours"
        assert (await client.post("/chat", json={"message": "x"}, headers=ours)).status_code == 200
        old = {"origin": server.url}
        assert (await client.post("/chat", json={"message": "x"}, headers=old)).status_code == 200
        mcp = await client.post("/mcp", json=SOMETHING, headers=JSON | ours)
        assert mcp.status_code == 401, "a session opens no MCP door"

        assert (await client.post("/signout", headers=form | ours)).status_code == 303
        kept = {"cookie": cookie.partition(";")[0]}
        assert (await client.get("/me.json", headers=kept)).status_code == 401, "the session ended only in the browser"


@pytest.mark.parametrize(
    ("to", "goes_on"),
    [
        ("/usage?days=7&model=claude-opus-5-5", "/usage?days=7&model=claude-opus-5-5"),
        ("/t/t_0123456789abcdef", "/t/t_0123456789abcdef"),
        *((elsewhere, "/") for elsewhere in ("", "//evil.example", "https://evil.example/usage", "/\\evil.example")),
        *((elsewhere, "/") for elsewhere in ("/signout", "/usage.json", "/t/../signout", "/usage?a=b\r\nx: y")),
        ('/t/"><script>alert(1)</script>', "/"),
    ],
)
async def test_sign_in_redirects_only_to_pages_of_this_server(
    upstream: Simulator, tmp_path: Path, to: str, goes_on: str
) -> None:
    async with (
        http_server_thread(tmp_path / "data", upstream.url, users=("ada",)) as server,
        httpx2.AsyncClient(verify=NO_TLS, base_url=server.url, timeout=30) as client,
    ):
        ours = {"sec-fetch-site": "same-origin"}
        shown = await client.get("/signin", params={"to": to})
        assert f'name="to" value="{escape(goes_on)}"' in shown.text
        wrong = await client.post("/signin", data={"token": "nobody", "to": to}, headers=ours)
        assert parse_qs(urlsplit(wrong.headers["location"]).query).get("to", ["/"]) == [goes_on]
        signed = await client.post("/signin", data={"token": server.tokens["ada"], "to": to}, headers=ours)
        assert (signed.status_code, signed.headers["location"]) == (303, goes_on)


async def test_over_tls_the_session_cookie_is_bound_to_this_host(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(
        tmp_path / "data", upstream.url, users=("ada",), public_url="https://claude.example.com"
    ) as server:
        headers = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}
        async with httpx2.AsyncClient(verify=NO_TLS, base_url=server.url) as client:
            signed = await client.post("/signin", content=f"token={server.tokens['ada']}", headers=headers)
            cookie = signed.headers["set-cookie"]
            assert cookie.startswith("__Host-session=")
            assert "secure" in cookie.lower()
            bare = cookie.partition(";")[0].removeprefix("__Host-")
            assert (await client.get("/me.json", headers={"cookie": bare})).status_code == 401


async def test_a_body_that_is_too_long_is_rejected_declared_or_not(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, max_body_bytes=2_000) as server:

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b'{"message": "' + b"x" * 500

        for path in ("/chat", "/mcp"):
            async with httpx2.AsyncClient(verify=NO_TLS, base_url=server.url, timeout=100) as client:
                response = await client.post(path, content=b"x" * 2_001, headers=JSON)
                untold = await client.post(path, content=pieces(), headers=JSON)
            assert (response.status_code, untold.status_code) == (413, 413), path
        async with httpx2.AsyncClient(verify=NO_TLS, base_url=server.url, timeout=100) as client:
            assert (await client.post("/chat", json={"message": "hello"})).status_code == 200
    assert len(spent(upstream)) == 1


@pytest.mark.parametrize(
    "sprawling",
    [
        '{"message": "hello", "prompt": "hello", "zzz": [' + "{}," * 250_000 + "{}]}",
        '{"message": "hello", "prompt": "\\\\", "schema": {"enum": [' + "1," * 250_000 + "1]}}",
        '{"message": "hello", "files": [' + '"",' * 250_000 + '""]}',
        '{"message": "hello", "schema": ' + "[" * 300_000,
        '{"message": "hello"}'.encode("utf-16").decode("latin-1") + " " * 300_000,
    ],
)
async def test_a_body_that_is_expensive_to_parse_is_rejected(server: Door, upstream: Simulator, sprawling: str) -> None:
    async with server.client() as client:
        for path in ("/chat", "/mcp"):
            response = await client.post(path, content=sprawling.encode("latin-1"), headers=JSON)
            assert (response.status_code, kind(response)) == (413, "too_large"), path
    assert not spent(upstream)


async def test_a_long_text_full_of_quotes_and_commas_is_accepted(server: Door) -> None:
    async with server.client() as client:
        response = await client.post("/chat", json={"message": '{"a": [1, 2, "\\"], }' * 20_000})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/x/../../web/app.py",
        "/static/x/%2e%2e/%2e%2e/app.py",
        "/static/x/..%2f..%2fapp.py",
        "/static/x//etc/passwd",
        "/static/x/%2fetc%2fpasswd",
        "/static/x/js/",
        "/static/",
        "/threads/..%2fme.json",
        "/signin/../me.json",
        "//me.json",
        "/%6de.json/",
        "/me.json%00",
        "/signin%2f..%2fme.json",
        "/static/../me.json",
        "/.well-known/../me.json",
    ],
)
async def test_no_path_leads_past_authentication_or_out_of_the_static_files(
    upstream: Simulator, tmp_path: Path, path: str
) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, users=("ada",)) as server:
        answer = await raw(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert re.match(r"HTTP/1.1 (400|401|404|303|307)", answer), answer[:200]
    assert "ada" not in answer
    assert "root:" not in answer
    assert "import" not in answer


async def test_a_header_cannot_be_smuggled_into_a_response(server: Door) -> None:
    for path in (
        "/chat/c_1%0d%0aset-cookie:%20a=b",
        "/t/%0d%0aset-cookie:%20a=b",
        "/signin?wrong=1%0d%0aset-cookie:a=b",
    ):
        answer = await raw(
            server,
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: c_1\x0b:5\r\nConnection: close\r\n\r\n",
        )
        assert "set-cookie" not in answer.partition("\r\n\r\n")[0].lower()


async def test_every_response_has_the_security_headers(server: Door) -> None:
    for method, path in [*routes(server), ("GET", "/nothing-here")]:
        if path == "/mcp":
            continue
        headers = (await ask(server, method, path)).headers
        assert headers["content-security-policy"] == CSP, path
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
        assert headers["cache-control"]


async def raw(server: Door, request: str) -> str:
    """The answer to exactly these bytes."""
    where = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        writer.write(request.encode("latin-1"))
        await writer.drain()
        return (await asyncio.wait_for(reader.read(), 100)).decode("utf-8", "replace")
    finally:
        writer.close()


async def test_a_request_with_two_lengths_is_refused_and_its_connection_closed(server: Door) -> None:
    host = server.url.removeprefix("http://")
    head = f"POST /chat HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 3\r\n"
    said = await raw(server, f"{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n")
    assert said.startswith("HTTP/1.1 400 ")
    assert "not both" in said
    assert said.count("HTTP/1.1") == 1
