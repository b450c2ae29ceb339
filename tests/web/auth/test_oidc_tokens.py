"""An identity provider's tokens at the HTTP door, against a real issuer on this machine; and what must not get in."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.lowlevel
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

from mcp_server_claude.errors import ConfigurationError, TemporaryError
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from mcp_server_claude.web.auth import jwks_cache
from mcp_server_claude.web.auth.oidc_tokens import InvalidTokenError, OidcTokenVerifier, resource_metadata
from mcp_server_claude.web.http_server import listener_url, open_listener, run_http_server
from support.http_server import http_server_thread
from support.loopback_server import loopback_server
from support.mcp_session import FAKE_KEY, usage_meta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator
    from mcp_server_claude.users.tokens_and_sessions import UserDirectory

pytestmark = pytest.mark.anyio

PUBLIC = "https://claude.example"
RESOURCE = f"{PUBLIC}/mcp"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SMALL_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that is the point
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()
ALGORITHMS = {"rsa": "RS256", "curve": "ES256", "edwards": "EdDSA", "other": "RS256", "small": "RS256"}
KEYS: dict[str, Any] = {"rsa": RSA, "curve": CURVE, "edwards": EDWARDS, "other": OTHER_RSA, "small": SMALL_RSA}


def public(name: str, **changes: object) -> dict[str, object]:
    """A key as a provider publishes it."""
    maker = jwt.get_algorithm_by_name(ALGORITHMS[name])
    key = cast("dict[str, object]", json.loads(maker.to_jwk(KEYS[name].public_key())))
    return {"kid": name, "use": "sig", "alg": ALGORITHMS[name]} | key | changes


@dataclass
class Issuer:
    """An identity provider: its metadata, its keys, and how often each was asked for."""

    url: str = ""
    keys: list[dict[str, object]] = field(default_factory=lambda: [public("rsa"), public("curve"), public("edwards")])
    metadata: dict[str, object] = field(default_factory=dict[str, object])
    status: int = 200
    silent: bool = False
    trickling: bool = False
    held: asyncio.Event | None = None
    requested_paths: list[str] = field(default_factory=list[str])
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    body: bytes | None = None
    metadata_path: str = "/.well-known/openid-configuration"

    def claims(self, **changes: object) -> dict[str, object]:
        """What a good token says; a change to None leaves a claim out."""
        now = int(time.time())
        good: dict[str, object] = {
            "iss": self.url,
            "aud": RESOURCE,
            "sub": "user-17",
            "exp": now + 300,
            "iat": now,
            "preferred_username": "Ada",
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(self, key: str = "rsa", headers: dict[str, object] | None = None, **changes: object) -> str:
        header: dict[str, Any] = {"kid": key} | (headers or {})
        return jwt.encode(self.claims(**changes), KEYS[key], ALGORITHMS[key], headers=header)

    def answer(self, path: str, form: bytes) -> bytes | None:
        self.requested_paths.append(path)
        self.arrived.set()
        if self.body is not None:
            return self.body
        if path == "/register":
            return json.dumps(json.loads(form) | {"client_id": "a-client"}).encode()
        if path == "/token":
            parameters = parse_qs(form.decode())
            token = self.token(aud=parameters["resource"], scope="claude:ask")
            return json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": 300}).encode()
        if path == self.metadata_path:
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"} | self.metadata).encode()
        return json.dumps({"keys": self.keys}).encode() if path == "/keys" else None

    @property
    def times(self) -> int:
        """The number of requests for the keys."""
        return self.requested_paths.count("/keys")


@asynccontextmanager
async def issuing() -> AsyncGenerator[Issuer]:
    """An issuer that listens on this machine."""
    issuer = Issuer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        form = await reader.readexactly(int(length[1])) if length else b""
        body = issuer.answer(head.split()[1].decode(), form)
        if issuer.silent:
            await asyncio.Event().wait()
        if issuer.held is not None:
            await issuer.held.wait()
        status, body = (404, b"") if body is None else (issuer.status, body)
        reply = f"HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(reply.encode())
        if issuer.trickling:
            for byte in body:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.05)
        else:
            writer.write(body)
        await writer.drain()

    async with loopback_server(serve) as issuer.url:
        yield issuer


@dataclass
class Clock:
    """A clock that advances when it is set."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


async def empty_directory() -> UserDirectory:
    raise NotImplementedError


def identity(issuer: Issuer, clock: Callable[[], float] = time.monotonic, **fields: object) -> OidcTokenVerifier:
    settings = Settings.model_validate({"oidc_issuer": issuer.url, "public_url": PUBLIC} | fields)
    keys = jwks_cache.JwksCache(settings.oidc_issuer, settings.oidc_jwks_url, clock=clock)
    return OidcTokenVerifier(settings, empty_directory, keys)


@pytest.fixture
async def issuer() -> AsyncGenerator[Issuer]:
    async with issuing() as issuer:
        yield issuer


# What gets in


@pytest.mark.parametrize("key", ["rsa", "curve", "edwards"])
async def test_a_token_that_the_issuer_signed_for_this_server_is_valid(issuer: Issuer, key: str) -> None:
    assert (await identity(issuer).verify_claims(issuer.token(key)))["sub"] == "user-17"


@pytest.mark.parametrize("audience", [RESOURCE, f"{RESOURCE}/", ["https://elsewhere.example", RESOURCE]])
async def test_the_audience_is_the_address_of_the_server_or_the_configured_one(
    issuer: Issuer, audience: object
) -> None:
    assert await identity(issuer).verify_claims(issuer.token(aud=audience))
    named = identity(issuer, oidc_audience=("api://claude", "https://elsewhere.example/"))
    assert await named.verify_claims(issuer.token(aud="api://claude"))
    with pytest.raises(InvalidTokenError):
        await named.verify_claims(issuer.token(aud=audience))


@pytest.mark.parametrize(
    "metadata_path",
    [
        "/.well-known/oauth-authorization-server/tenant",
        "/.well-known/openid-configuration/tenant",
        "/tenant/.well-known/openid-configuration",
    ],
)
async def test_the_keys_are_found_through_the_metadata_of_the_issuer(issuer: Issuer, metadata_path: str) -> None:
    issuer.metadata_path, issuer.url = metadata_path, f"{issuer.url}/tenant"
    issuer.metadata = {"jwks_uri": f"{issuer.url.removesuffix('/tenant')}/keys"}
    assert await identity(issuer).verify_claims(issuer.token())


async def test_the_address_of_the_keys_can_be_configured(issuer: Issuer) -> None:
    assert await identity(issuer, oidc_jwks_url=f"{issuer.url}/keys").verify_claims(issuer.token())
    assert issuer.requested_paths == ["/keys"]


async def test_keys_without_an_algorithm_accept_those_of_their_type(issuer: Issuer) -> None:
    bare = public("rsa")
    del bare["alg"]
    issuer.keys = [bare]
    token = jwt.encode(issuer.claims(), RSA, "PS256", headers={"kid": "rsa"})
    assert await identity(issuer).verify_claims(token)


async def test_a_token_without_a_key_id_is_valid_if_exactly_one_key_fits(issuer: Issuer) -> None:
    token = jwt.encode(issuer.claims(), RSA, "RS256")
    assert await identity(issuer).verify_claims(token)
    issuer.keys.append(public("other"))
    with pytest.raises(InvalidTokenError):
        await identity(issuer).verify_claims(token)


@pytest.mark.parametrize(
    "claims", [{"scope": "read claude:ask"}, {"scp": ["claude:ask"]}, {"scp": "claude:ask"}], ids=str
)
async def test_a_scope_is_read_in_the_forms_of_the_providers(issuer: Issuer, claims: dict[str, Any]) -> None:
    assert await identity(issuer, oidc_scope="claude:ask").verify_claims(issuer.token(**claims))


# What does not


def forged(issuer: Issuer) -> dict[str, str]:
    """Tokens that must not be taken, by what is wrong with them."""
    now = int(time.time())
    pem = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    modulus = str(public("rsa")["n"]).encode()
    evil = {"jwk": public("other"), "jku": f"{issuer.url}/keys", "x5u": f"{issuer.url}/keys"}
    good = issuer.token()
    head, body, signature = good.split(".")
    return {
        "alg none": raw({"alg": "none"}, issuer.claims()),
        "alg none, with a key's id": raw({"alg": "none", "kid": "rsa"}, issuer.claims()),
        "alg NONE, signed": ".".join((part({"alg": "NONE", "kid": "rsa"}), body, signature)),
        "an alg that is no text": ".".join((part({"alg": {"RS256": 1}, "kid": "rsa"}), body, signature)),
        "no alg": ".".join((part({"kid": "rsa"}), body, signature)),
        "HS256 with the public key as its secret": raw({"alg": "HS256", "kid": "rsa"}, issuer.claims(), pem),
        "HS256 with the modulus as its secret": raw({"alg": "HS256", "kid": "rsa"}, issuer.claims(), modulus),
        "HS256 with nothing as its secret": raw({"alg": "HS256", "kid": "rsa"}, issuer.claims(), b""),
        "another's key under a known id": jwt.encode(issuer.claims(), OTHER_RSA, "RS256", headers={"kid": "rsa"}),
        "a key that the token brings along": jwt.encode(
            issuer.claims(), OTHER_RSA, "RS256", headers={"kid": "other"} | evil
        ),
        "an algorithm of another kind of key": jwt.encode(issuer.claims(), RSA, "RS256", headers={"kid": "curve"}),
        "an algorithm that the key is not for": jwt.encode(issuer.claims(), RSA, "PS256", headers={"kid": "rsa"}),
        "no signature": f"{head}.{body}.",
        "a changed body": ".".join((head, part(issuer.claims(sub="user-1")), signature)),
        "another audience": issuer.token(aud="https://elsewhere.example/mcp"),
        "this server's origin as its audience": issuer.token(aud=PUBLIC),
        "a longer audience": issuer.token(aud=f"{RESOURCE}.evil.example"),
        "no audience": issuer.token(aud=None),
        "an empty audience": issuer.token(aud=[]),
        "another issuer": issuer.token(iss="https://elsewhere.example"),
        "an issuer with a slash": issuer.token(iss=f"{issuer.url}/"),
        "no issuer": issuer.token(iss=None),
        "expired": issuer.token(exp=now - 60),
        "no end": issuer.token(exp=None),
        "an end that is no number": issuer.token(exp="soon"),
        "an end as a string of digits": issuer.token(exp=str(now + 300)),
        "a start as a string of digits": issuer.token(nbf=str(now - 60)),
        "an age as a string of digits": issuer.token(iat=str(now - 60)),
        "an end beyond all numbers": ".".join(
            (part({"alg": "RS256", "kid": "rsa"}), part({**issuer.claims(), "exp": 10**400}), signature)
        ),
        "not yet": issuer.token(nbf=now + 3600),
        "issued tomorrow": issuer.token(iat=now + 86_400),
        "nobody's": issuer.token(sub=None),
        "an empty subject": issuer.token(sub=""),
        "a subject that is no text": raw_signed(issuer.claims(sub=17)),
        "a subject without end": issuer.token(sub="x" * 300),
        "an extension that must be understood": issuer.token(headers={"crit": ["evil"], "evil": 1}),
        "a key's id that is no text": ".".join((part({"alg": "RS256", "kid": {"a": 1}}), body, signature)),
        "an unknown key": issuer.token(headers={"kid": "unknown"}),
        "no JSON": f"{encoded(b'[[[')}.{body}.{signature}",
        "a list": f"{part([1])}.{body}.{signature}",
        "nested without end": f"{encoded(b'[' * 4000)}.{body}.{signature}",
        "nested claims without end": f"{head}.{encoded(b'[' * 4000)}.{signature}",
        "words": "not.a.token",
        "nothing": "..",
        "not ASCII": f"{head}.{body}.\u00e4",
        "huge": f"{head}.{'A' * 1_000_000}.{signature}",
    }


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(content: object) -> str:
    return encoded(json.dumps(content).encode())


def raw(header: dict[str, object], claims: dict[str, object], secret: bytes | None = None) -> str:
    """A token that no library would make: signed with a secret, or not at all."""
    signed = f"{part(header)}.{part(claims)}"
    signature = b"" if secret is None else hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{encoded(signature)}"


def raw_signed(claims: dict[str, object]) -> str:
    """A token with claims that the library refuses to sign."""
    payload = json.dumps(claims).encode()
    return jwt.api_jws.encode(payload, RSA, "RS256", headers={"kid": "rsa"})


FORGERIES = sorted(forged(Issuer("http://127.0.0.1:1")))


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_token_with_any_invalid_part_is_denied(issuer: Issuer, name: str) -> None:
    with pytest.raises(InvalidTokenError) as denied:
        await identity(issuer).verify_claims(forged(issuer)[name])
    assert denied.value.kind == "unauthorized"
    assert issuer.times <= 1


async def test_a_token_that_is_too_long_is_denied_before_any_request(issuer: Issuer) -> None:
    with pytest.raises(InvalidTokenError):
        await identity(issuer).verify_claims(issuer.token(padding="x" * 20_000))
    assert issuer.requested_paths == []


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")  # the test signs with it
async def test_secret_weak_or_foreign_keys_are_ignored(issuer: Issuer) -> None:
    secret: dict[str, object] = {"kty": "oct", "kid": "secret", "alg": "HS256", "k": encoded(b"s" * 32)}
    claims = issuer.claims()
    for key, token in (
        (secret, jwt.encode(claims, b"s" * 32, "HS256", headers={"kid": "secret"})),
        (public("small"), issuer.token("small")),
        (public("rsa", use="enc"), issuer.token()),
        (public("rsa", key_ops=["encrypt"]), issuer.token()),
        (public("rsa", key_ops=7), issuer.token()),
        (public("rsa", n=7), issuer.token()),
        (public("rsa", kty="EC"), issuer.token()),
    ):
        issuer.keys = [public("edwards"), key]
        with pytest.raises(InvalidTokenError):
            await identity(issuer).verify_claims(token)


async def test_a_missing_scope_is_named(issuer: Issuer) -> None:
    checking = identity(issuer, oidc_scope="claude:ask claude:map")
    with pytest.raises(InvalidTokenError, match="claude:map") as denied:
        await checking.verify_claims(issuer.token(scope="claude:ask"))
    assert denied.value.kind == "forbidden"
    verify_denied = checking.challenge(denied.value)
    assert 'error="insufficient_scope"' in verify_denied
    assert 'scope="claude:ask claude:map"' in verify_denied


async def test_without_a_public_address_the_server_accepts_no_tokens(issuer: Issuer) -> None:
    with pytest.raises(ConfigurationError, match="MCP_CLAUDE_PUBLIC_URL"):
        await identity(issuer, public_url="").verify_claims(issuer.token())


@pytest.mark.parametrize("name", ["oidc_issuer", "oidc_jwks_url"])
@pytest.mark.parametrize("url", ["http://issuer.example", "ftp://issuer.example", "file:///etc/passwd", "nonsense"])
async def test_keys_are_not_fetched_over_an_unprotected_connection(issuer: Issuer, name: str, url: str) -> None:
    fields: dict[str, Any] = {name: url}
    with pytest.raises(ConfigurationError, match="https://"):
        await identity(issuer, **fields).verify_claims(issuer.token())


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://issuer.example/keys", True),
        ("http://127.0.0.1:8080/keys", True),
        ("http://[::1]/keys", True),
        ("http://localhost/keys", True),
        ("http://issuer.example/keys", False),
        ("http://127.0.0.1.issuer.example/keys", False),
        ("http://localhost.issuer.example/keys", False),
        ("http://169.254.169.254/keys", False),
        ("https:///keys", False),
        ("http://[::1", False),
    ],
)
def test_keys_are_fetched_over_tls_or_from_this_machine(url: str, *, safe: bool) -> None:
    assert jwks_cache.is_safe_url(url) is safe


async def test_metadata_of_another_issuer_or_with_a_foreign_address_is_rejected(issuer: Issuer) -> None:
    changes: list[dict[str, object]] = [
        {"issuer": f"{issuer.url}/"},
        {"jwks_uri": "http://keys.example/keys"},
        {"jwks_uri": 7},
    ]
    for issuer.metadata in changes:
        with pytest.raises(TemporaryError):
            await identity(issuer).verify_claims(issuer.token())
    assert issuer.times == 0


# Keys come and go


async def test_a_flood_of_unknown_keys_causes_one_request(issuer: Issuer) -> None:
    clock = Clock()
    checking = identity(issuer, clock)
    await checking.verify_claims(issuer.token())

    async def flood(number: int) -> None:
        with pytest.raises(InvalidTokenError):
            await checking.verify_claims(issuer.token(headers={"kid": f"made-up-{number}"}))

    async def many(start: int) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(start, start + 200):
                tasks.start_soon(flood, number)

    await many(0)
    assert issuer.times == 1
    clock.now += jwks_cache.REFRESH_INTERVAL_S
    await many(200)
    assert issuer.times == 2
    assert await checking.verify_claims(issuer.token())


async def test_a_new_key_is_accepted_as_soon_as_the_issuer_may_be_asked_again(issuer: Issuer) -> None:
    clock = Clock()
    checking = identity(issuer, clock)
    await checking.verify_claims(issuer.token())
    issuer.keys = [public("other")]
    clock.now += jwks_cache.REFRESH_INTERVAL_S
    assert await checking.verify_claims(issuer.token("other"))
    with pytest.raises(InvalidTokenError):
        await checking.verify_claims(issuer.token("rsa"))


async def test_a_withdrawn_key_soon_becomes_invalid(issuer: Issuer) -> None:
    clock = Clock()
    checking = identity(issuer, clock)
    await checking.verify_claims(issuer.token())
    issuer.keys = [public("other")]
    clock.now += jwks_cache.CACHE_TTL_S
    with pytest.raises(InvalidTokenError):
        await checking.verify_claims(issuer.token())


async def test_concurrent_first_tokens_fetch_the_keys_once(issuer: Issuer) -> None:
    checking = identity(issuer)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(checking.verify_claims, issuer.token())
    assert issuer.times == 1


async def test_an_unreachable_issuer_is_tolerated_for_a_while_and_then_reported(issuer: Issuer) -> None:
    clock = Clock()
    checking = identity(issuer, clock)
    await checking.verify_claims(issuer.token())
    issuer.status = 500
    clock.now += jwks_cache.CACHE_TTL_S
    assert await checking.verify_claims(issuer.token())
    clock.now += jwks_cache.MAX_STALE_S
    with pytest.raises(TemporaryError) as away:
        await checking.verify_claims(issuer.token())
    assert away.value.kind == "identity_provider"
    assert away.value.retry_after_s
    issuer.status = 200
    clock.now += jwks_cache.RETRY_INTERVAL_S
    assert await checking.verify_claims(issuer.token())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"keys": 7}',
        b'{"keys": [7]}',
        b"[" * 100_000,
        json.dumps({"keys": [public("rsa")], "padding": "x" * jwks_cache.MAX_DOCUMENT_BYTES}).encode(),
    ],
    ids=lambda body: body[:10].decode(),
)
async def test_an_issuer_that_answers_nonsense_counts_as_unreachable(issuer: Issuer, body: bytes) -> None:
    issuer.body = body
    with pytest.raises(TemporaryError):
        await identity(issuer, oidc_jwks_url=f"{issuer.url}/keys").verify_claims(issuer.token())


@pytest.mark.parametrize("how", ["silent", "trickling"])
async def test_an_issuer_that_never_finishes_its_response_delays_requests_only_briefly(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(jwks_cache, "DISCOVERY_TIMEOUT_S", 0.2)
    setattr(issuer, how, True)
    checking = identity(issuer, oidc_jwks_url=f"{issuer.url}/keys")

    async def verify_denied() -> None:
        with pytest.raises(TemporaryError):
            await checking.verify_claims(issuer.token())

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(verify_denied)
        for _ in range(100):
            await verify_denied()
    assert issuer.times <= 2


async def test_a_cancelled_request_does_not_cancel_the_keys_of_the_others(issuer: Issuer) -> None:
    checking = identity(issuer, oidc_jwks_url=f"{issuer.url}/keys")
    issuer.held, first = asyncio.Event(), anyio.CancelScope()

    async def leave() -> None:
        with first:
            await checking.verify_claims(issuer.token())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leave)
        await issuer.arrived.wait()
        first.cancel()
        tasks.start_soon(checking.verify_claims, issuer.token())
        await anyio.lowlevel.checkpoint()
        issuer.held.set()
    assert issuer.times == 1


# At the door


async def test_a_valid_token_is_admitted_and_creates_a_user_on_first_use(
    issuer: Issuer, upstream: Simulator, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"oidc_issuer": issuer.url, "public_url": PUBLIC, "user_usd_per_day": 3.0}
    async with http_server_thread(tmp_path / "data", upstream.url, **fields) as here:
        async with here.client(Authorization=f"Bearer {issuer.token()}") as client:
            me = (await client.get("/me.json")).json()
            assert (await client.get("/me.json")).json()["name"] == me["name"]
            answer = await client.post("/chat", json={"message": "Hello?"}, headers={"Accept": "text/plain"})
        async with here.client(Authorization=f"Bearer {issuer.token(sub='another')}") as client:
            another = (await client.get("/me.json")).json()
        assert here.services is not None
        known = {each.user.name: each.issuer for each in await (await here.services.open()).users.list_users()}
    assert known == {"ada": issuer.url, "ada-2": issuer.url}
    assert (me["name"], me["role"], me["budget_usd"]) == ("ada", "user", 3.0)
    assert answer.status_code == 200
    assert another["name"] == "ada-2"


async def test_the_probes_of_claude_code_get_the_responses_of_a_resource_server(
    issuer: Issuer, upstream: Simulator, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"oidc_issuer": issuer.url, "public_url": PUBLIC, "oidc_scope": "claude:ask"}
    async with http_server_thread(tmp_path / "data", upstream.url, **fields) as here, here.client() as client:
        empty_directory = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
        expired = await client.post(
            "/mcp", json={}, headers={"Authorization": f"Bearer {issuer.token(exp=1_700_000_000)}"}
        )
        opaque = await client.post("/mcp", json={}, headers={"Authorization": "Bearer not-known-here"})
        narrow = await client.post("/mcp", json={}, headers={"Authorization": f"Bearer {issuer.token()}"})
        described = [(await client.get(f"/.well-known/oauth-protected-resource{path}")).json() for path in ("", "/mcp")]
        others = [
            (await client.get(f"/.well-known/{name}")).status_code
            for name in ("oauth-authorization-server", "openid-configuration", "oauth-authorization-server/mcp")
        ]
        registered = await client.post("/register", json={"redirect_uris": []})
    where = f'resource_metadata="{PUBLIC}/.well-known/oauth-protected-resource/mcp"'
    assert empty_directory.status_code == 401
    assert empty_directory.headers["www-authenticate"] == f'Bearer {where}, scope="claude:ask"'
    for wrong in (expired, opaque):
        assert wrong.status_code == 401
        assert wrong.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
        assert wrong.json()["error"]["class"] == "request_error"
    assert narrow.status_code == 403
    assert 'error="insufficient_scope"' in narrow.headers["www-authenticate"]
    assert described[0] == described[1] == resource_metadata(Settings.model_validate(fields))
    assert described[0]["resource"] == RESOURCE
    assert described[0]["authorization_servers"] == [issuer.url]
    assert described[0]["scopes_supported"] == ["claude:ask"]
    assert others == [404, 404, 404]
    assert registered.status_code in {401, 404}


class Drawer:
    """Where an MCP client keeps its tokens."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


async def test_an_mcp_client_that_knows_only_the_address_finds_the_issuer_signs_in_and_calls(
    issuer: Issuer, upstream: Simulator, tmp_path: Path
) -> None:
    issuer.metadata = {
        "authorization_endpoint": f"{issuer.url}/authorize",
        "token_endpoint": f"{issuer.url}/token",
        "registration_endpoint": f"{issuer.url}/register",
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
    }
    pages: list[str] = []

    async def open_page(url: str) -> None:
        pages.append(url)

    async def come_back() -> AuthorizationCodeResult:
        [state] = parse_qs(urlsplit(pages[-1]).query)["state"]
        return AuthorizationCodeResult(code="a-code", state=state)

    who = OAuthClientMetadata(redirect_uris=[AnyUrl("http://127.0.0.1:1/back")], client_name="test")
    with open_listener("127.0.0.1", 0) as listener:
        url = f"{listener_url(listener)}/mcp"
        fields = {
            "api_key": FAKE_KEY,
            "base_url": upstream.url,
            "data_dir": tmp_path / "data",
            "oidc_issuer": issuer.url,
        }
        fields |= {"public_url": listener_url(listener), "oidc_scope": "claude:ask"}
        settings = Settings.model_validate(fields)
        async with (
            Services.lifespan(settings, http=True) as services,
            run_http_server(settings, services, "127.0.0.1", listener),
            httpx2.AsyncClient(auth=OAuthClientProvider(url, who, Drawer(), open_page, come_back)) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            result = await client.call_tool("claude_ask", {"prompt": "Hello."})
    assert usage_meta(result)["user"] == "ada"
    [parameters] = [parse_qs(urlsplit(page).query) for page in pages]
    assert (parameters["resource"], parameters["scope"]) == ([url], ["claude:ask"])


async def test_without_an_identity_provider_no_client_is_sent_to_one(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, users=["ada"]) as here, here.client() as client:
        answer = await client.post("/mcp", json={})
        assert (await client.get("/.well-known/oauth-protected-resource/mcp")).status_code == 404
        assert (await client.get("/.well-known/oauth-protected-resource")).status_code == 404
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_an_unreachable_issuer_neither_admits_nor_locks_out_anybody_permanently(
    issuer: Issuer, upstream: Simulator, tmp_path: Path
) -> None:
    issuer.status = 500
    fields: dict[str, Any] = {"oidc_issuer": issuer.url, "public_url": PUBLIC}
    async with http_server_thread(tmp_path / "data", upstream.url, users=["ada"], **fields) as here:
        async with here.client(Authorization=f"Bearer {issuer.token()}") as client:
            answer = await client.get("/me.json")
        async with here.client("ada") as client:
            assert (await client.get("/me.json")).json()["name"] == "ada"
    assert (answer.status_code, answer.json()["error"]["kind"]) == (503, "identity_provider")
    assert int(answer.headers["retry-after"]) > 0
