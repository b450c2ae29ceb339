"""The keys of an identity provider: found by its own metadata, kept, and asked for again when they change.

Who sends tokens must not be able to make us ask: unknown ids of keys lead to one request in `REFRESH_INTERVAL_S`,
however many
there are, and while a request is on its way everybody waits for that one. Keys that could not be renewed hold until
they are `MAX_STALE_S` old, so that a provider may be away for a while.
"""

from __future__ import annotations

import ipaddress
import json
import math
import time
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx2
import jwt

from mcp_server_claude.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable

Jwk = dict[str, Any]

ALGORITHMS_BY_KEY_TYPE: dict[str, frozenset[str]] = {
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "P-256": frozenset({"ES256"}),
    "P-384": frozenset({"ES384"}),
    "P-521": frozenset({"ES512"}),
    "Ed25519": frozenset({"EdDSA"}),
}
"""What a key may sign with: RSA, or an elliptic curve by its name. No secret is ever a key (RFC 8725, section 3.1)."""
ALGORITHMS = frozenset[str]().union(*ALGORITHMS_BY_KEY_TYPE.values())

CACHE_TTL_S = 600.0
MAX_STALE_S = 3_600.0
REFRESH_INTERVAL_S, RETRY_INTERVAL_S = 30.0, 5.0
"""Seconds until the provider is asked again at the earliest, after it gave keys and after it did not."""
DISCOVERY_TIMEOUT_S = 5.0
"""Seconds that looking for keys may take, its three or four requests together."""
MAX_DOCUMENT_BYTES = 512 * 1024
MAX_KEYS = 100

METADATA_PATHS = (
    "/.well-known/oauth-authorization-server{path}",
    "/.well-known/openid-configuration{path}",
    "{path}/.well-known/openid-configuration",
)
"""Where a provider describes itself, in the order of the MCP specification (RFC 8414, OpenID Connect Discovery)."""


class JwksCache:
    """The keys of one provider. `url` is where they are; empty asks the provider's metadata."""

    def __init__(
        self,
        issuer: str,
        url: str = "",
        *,
        client: Callable[[], httpx2.AsyncClient] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._url = url
        self._discovered_url = ""
        self._make_client = client or _new_http_client
        self._clock = clock
        self._keys: list[Jwk] = []
        self._fetched_at = self._next_fetch_at = -math.inf
        self._fetch_lock = anyio.Lock()

    async def find_key(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The provider's key of this id that may sign with this algorithm; without an id, the only one that may.

        Raises:
            TemporaryError: There are no keys, and none could be had.
        """
        if self._age_s() >= CACHE_TTL_S and not (self._age_s() < MAX_STALE_S and self._fetch_lock.locked()):
            await self._refresh()
        key = self._matching_key(key_id, algorithm)
        if key is None and self._age_s() < MAX_STALE_S:
            await self._refresh()
            key = self._matching_key(key_id, algorithm)
        if self._age_s() >= MAX_STALE_S:
            raise TemporaryError(
                "The identity provider's keys could not be had, so no token can be checked. Try again.",
                kind="identity_provider",
                retry_after_s=max(1.0, self._next_fetch_at - self._clock()),
            )
        return key

    def _matching_key(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        fitting = [
            key
            for key in self._keys
            if algorithm in _allowed_algorithms(key) and (not key_id or key.get("kid") == key_id)
        ]
        if len(fitting) != 1 and not key_id:
            return None
        for key in fitting:
            try:
                return jwt.PyJWK(key, algorithm)
            except jwt.PyJWTError:  # it has the form of a key and is none
                continue
        return None

    def _age_s(self) -> float:
        return self._clock() - self._fetched_at

    async def _refresh(self) -> None:
        """Ask the provider, unless it is too soon: also because somebody else has while we waited for them.

        Not cancelled with the request that happens to be first: others wait for it too.
        """
        async with self._fetch_lock:
            if self._clock() < self._next_fetch_at:
                return
            keys: list[Jwk] = []
            with anyio.CancelScope(shield=True), anyio.move_on_after(DISCOVERY_TIMEOUT_S):
                keys = await self._fetch_keys()
            self._next_fetch_at = self._clock() + (REFRESH_INTERVAL_S if keys else RETRY_INTERVAL_S)
            if keys:
                self._keys, self._fetched_at = keys, self._clock()

    async def _fetch_keys(self) -> list[Jwk]:
        """The provider's keys; none when something is wrong with it."""
        # On a thread: reading the certificates of all authorities takes long enough to be noticed.
        async with await anyio.to_thread.run_sync(self._make_client) as client:
            url = self._url or self._discovered_url or await self._discover_jwks_url(client)
            document = await _fetch_json(client, url) if url else None
        listed = (document or {}).get("keys")
        keys = cast("list[object]", listed) if isinstance(listed, list) else []
        self._discovered_url = url if keys else ""
        return [cast("Jwk", key) for key in keys[:MAX_KEYS] if isinstance(key, dict)]

    async def _discover_jwks_url(self, client: httpx2.AsyncClient) -> str:
        """Where the provider says its keys are; it must be the one we mean (RFC 8414, section 3.3)."""
        parts = urlsplit(self._issuer)
        for place in METADATA_PATHS:
            url = f"{parts.scheme}://{parts.netloc}{place.format(path=parts.path.rstrip('/'))}"
            document = await _fetch_json(client, url) or {}
            found = document.get("jwks_uri")
            if document.get("issuer") == self._issuer and isinstance(found, str) and is_safe_url(found):
                return found
        return ""


def is_safe_url(url: str) -> bool:
    """Whether keys may come from there: TLS, or this very machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    if parts.scheme != "http":
        return False
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _allowed_algorithms(key: Jwk) -> frozenset[str]:
    """What a key may sign with, by its kind and by what it says of itself."""
    kind = key.get("kty")
    fits = ALGORITHMS_BY_KEY_TYPE.get(str(kind if kind == "RSA" else key.get("crv")), frozenset())
    uses: object = key.get("key_ops", ["verify"])
    verifies = key.get("use", "sig") == "sig" and isinstance(uses, list) and "verify" in uses
    if kind not in {"RSA", "EC", "OKP"} or not verifies:
        return frozenset()
    return fits & {str(key["alg"])} if "alg" in key else fits


async def _fetch_json(client: httpx2.AsyncClient, url: str) -> dict[str, Any] | None:
    """A JSON object from a URL; None when there is none, or it is too large."""
    body = bytearray()
    try:
        async with client.stream("GET", url, headers={"Accept": "application/json"}) as response:
            if response.status_code != 200:
                return None
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MAX_DOCUMENT_BYTES:
                    return None
        document: object = json.loads(body)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", document) if isinstance(document, dict) else None


def _new_http_client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=DISCOVERY_TIMEOUT_S, follow_redirects=False)
