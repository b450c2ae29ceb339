"""A cache of an identity provider's signing keys (JWKS), discovered from its metadata.

A sender of tokens must not be able to trigger requests: unknown key ids lead to one request per `REFRESH_INTERVAL_S`,
however many arrive, and all wait for a request that is under way. Keys that could not be refreshed are valid until they
are `MAX_STALE_S` old, so that a provider may be unreachable for a while.
"""

from __future__ import annotations

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
from mcp_server_claude.network_addresses import is_loopback, split_http_url

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
"""Signature algorithms by key type or curve. A shared secret is never a key (RFC 8725, section 3.1)."""
ALGORITHMS = frozenset[str]().union(*ALGORITHMS_BY_KEY_TYPE.values())

CACHE_TTL_S = 600.0
MAX_STALE_S = 3_600.0
REFRESH_INTERVAL_S, RETRY_INTERVAL_S = 30.0, 5.0
"""The minimum seconds between two requests to the provider, after a success and after a failure."""
DISCOVERY_TIMEOUT_S = 5.0
"""Seconds for fetching the keys, up to four requests together."""
MAX_DOCUMENT_BYTES = 512 * 1024
MAX_KEYS = 100

METADATA_PATHS = (
    "/.well-known/oauth-authorization-server{path}",
    "/.well-known/openid-configuration{path}",
    "{path}/.well-known/openid-configuration",
)
"""Paths of a provider's metadata in the MCP specification's order (RFC 8414, OpenID Connect Discovery)."""


class JwksCache:
    """The keys of one provider. `url` is their address; if it is empty, the provider's metadata names it."""

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
        """Return the provider's key with this id and algorithm; without an id, the only key with the algorithm.

        Raises:
            TemporaryError: There are no valid keys, and none could be fetched.
        """
        if self._age_s() >= CACHE_TTL_S and not (self._age_s() < MAX_STALE_S and self._fetch_lock.locked()):
            await self._refresh()
        key = self._matching_key(key_id, algorithm)
        if key is None and self._age_s() < MAX_STALE_S:
            await self._refresh()
            key = self._matching_key(key_id, algorithm)
        if self._age_s() >= MAX_STALE_S:
            raise TemporaryError(
                "The identity provider's keys could not be fetched, so no token can be verified. Try again later.",
                kind="identity_provider",
                retry_after_s=max(1.0, self._next_fetch_at - self._clock()),
            )
        return key

    def _matching_key(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        candidates = [
            key
            for key in self._keys
            if algorithm in _allowed_algorithms(key) and (not key_id or key.get("kid") == key_id)
        ]
        if len(candidates) != 1 and not key_id:
            return None
        for key in candidates:
            try:
                return jwt.PyJWK(key, algorithm)
            except jwt.PyJWTError:  # it only looks like a key
                continue
        return None

    def _age_s(self) -> float:
        return self._clock() - self._fetched_at

    async def _refresh(self) -> None:
        """Fetch the keys unless that is too soon, e.g. because another request has just done so.

        Shielded: other requests wait for it too, so it must not be cancelled with the first one.
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
        """The provider's keys; none if it fails."""
        # On a thread: loading the certificates of all authorities would block the event loop noticeably.
        async with await anyio.to_thread.run_sync(self._make_client) as client:
            url = self._url or self._discovered_url or await self._discover_jwks_url(client)
            document = await _fetch_json(client, url) if url else None
        entries = (document or {}).get("keys")
        keys = cast("list[object]", entries) if isinstance(entries, list) else []
        self._discovered_url = url if keys else ""
        return [cast("Jwk", key) for key in keys[:MAX_KEYS] if isinstance(key, dict)]

    async def _discover_jwks_url(self, client: httpx2.AsyncClient) -> str:
        """The address of the keys by the provider's metadata, which must name this issuer (RFC 8414, section 3.3)."""
        parts = urlsplit(self._issuer)
        for path in METADATA_PATHS:
            url = f"{parts.scheme}://{parts.netloc}{path.format(path=parts.path.rstrip('/'))}"
            document = await _fetch_json(client, url) or {}
            jwks_url = document.get("jwks_uri")
            if document.get("issuer") == self._issuer and isinstance(jwks_url, str) and is_safe_url(jwks_url):
                return jwks_url
        return ""


def is_safe_url(url: str) -> bool:
    """True if keys may be fetched from the URL: over TLS, or from this machine."""
    parts = split_http_url(url)
    return parts is not None and (parts.scheme == "https" or is_loopback(parts.hostname or ""))


def _allowed_algorithms(key: Jwk) -> frozenset[str]:
    """The algorithms that a key may be used with, by its type and its own `use`, `key_ops` and `alg`."""
    kind = key.get("kty")
    allowed = ALGORITHMS_BY_KEY_TYPE.get(str(kind if kind == "RSA" else key.get("crv")), frozenset())
    uses: object = key.get("key_ops", ["verify"])
    verifies = key.get("use", "sig") == "sig" and isinstance(uses, list) and "verify" in uses
    if kind not in {"RSA", "EC", "OKP"} or not verifies:
        return frozenset()
    return allowed & {str(key["alg"])} if "alg" in key else allowed


async def _fetch_json(client: httpx2.AsyncClient, url: str) -> dict[str, Any] | None:
    """A JSON object from a URL; None if there is none or it is too large."""
    body = bytearray()
    try:
        async with client.stream("GET", url, headers={"Accept": "application/json"}) as response:
            if response.status_code != 200:
                return None
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    return None
        document: object = json.loads(body)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", document) if isinstance(document, dict) else None


def _new_http_client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=DISCOVERY_TIMEOUT_S, follow_redirects=False)
