"""Verification of an identity provider's access tokens: this server as MCP's protected resource.

A client without a token learns where to get one (RFC 9728). A token must be signed with a key of the provider, be
issued for this server (RFC 8707) and be within its lifetime. Nothing in a token decides where its keys are or how it
may be signed: `jku`, `jwk` and `x5u` are ignored, the algorithms are a short list, each tied to a type of key (RFC
8725).

    token → unverified header, which only selects a key → signature → claims → `UserDirectory.authenticate_identity`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import jwt

from mcp_server_claude.errors import CallError, ConfigurationError, RequestError
from mcp_server_claude.web.auth.jwks_cache import ALGORITHMS, JwksCache, is_safe_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcp_server_claude.settings import Settings
    from mcp_server_claude.users.tokens_and_sessions import UserDirectory
    from mcp_server_claude.users.user import User

METADATA_PATH = "/.well-known/oauth-protected-resource"
MCP_PATH = "/mcp"
MAX_TOKEN_CHARS = 16_384
CLOCK_SKEW_S = 30.0
"""Seconds by which the provider's clock may differ from ours."""
MAX_SUBJECT_CHARS = 255
"""OpenID Connect Core, section 2."""
NAME_CLAIMS = ("preferred_username", "email", "name")
"""Claims with a name for people, in order of preference. Only a hint: `sub` identifies the user."""
NUMERIC_DATE_CLAIMS = ("exp", "nbf", "iat")
"""JSON numbers (RFC 7519, section 2); PyJWT also accepts strings of digits."""


class InvalidTokenError(RequestError):
    """A token was rejected; `error` and `scope` are RFC 6750's, for the `WWW-Authenticate` header."""

    def __init__(self, message: str, *, error: str = "invalid_token", scope: str = "") -> None:
        super().__init__(message, kind="forbidden" if error == "insufficient_scope" else "unauthorized")
        self.error = error
        self.scope = scope


class OidcTokenVerifier:
    """Verifies tokens and maps them to users."""

    def __init__(
        self, settings: Settings, users: Callable[[], Awaitable[UserDirectory]], keys: JwksCache | None = None
    ) -> None:
        self._settings = settings
        self._users = users
        self._keys = keys or JwksCache(settings.oidc_issuer, settings.oidc_jwks_url)
        self._audiences = accepted_audiences(settings)

    async def authenticate(self, token: str) -> User:
        """Return the user that a token identifies; the first token of an identity creates the user.

        Raises:
            InvalidTokenError: The token is invalid here.
            TemporaryError: The provider's keys cannot be fetched.
            ConfigurationError: A setting is missing, or the ledger cannot be used.
        """
        claims = await self.verify_claims(token)
        hint = next((text for name in NAME_CLAIMS if isinstance(text := claims.get(name), str) and text), "")
        return await (await self._users()).authenticate_identity(self._settings.oidc_issuer, claims["sub"], hint)

    async def verify_claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a valid token.

        Raises:
            InvalidTokenError: The token is invalid here.
            TemporaryError: The provider's keys cannot be fetched.
            ConfigurationError: A setting is missing.
        """
        check_oidc_settings(self._settings)
        algorithm, key_id = _unverified_header(token)
        key = await self._keys.find_key(key_id, algorithm)
        if key is None:
            raise InvalidTokenError("The token is not signed with a key of this server's identity provider.")
        claims = self._decode_claims(token, key, algorithm)
        self._check_scope(claims)
        return claims

    def challenge(self, failure: CallError | None = None) -> str:
        """The value of `WWW-Authenticate`: the fault of the token, if there was one, and where to get a valid one."""
        scope = self._settings.oidc_scope
        base = _public_base_url(self._settings)
        fields = {"resource_metadata": f"{base}{METADATA_PATH}{MCP_PATH}"} if base else {}
        if isinstance(failure, InvalidTokenError):
            fields = {"error": failure.error, "error_description": _quotable_text(str(failure))} | fields
            scope = failure.scope or scope
        if scope:
            fields["scope"] = _quotable_text(scope)
        return " ".join(("Bearer", ", ".join(f'{name}="{value}"' for name, value in fields.items()))).strip()

    def _decode_claims(self, token: str, key: jwt.PyJWK, algorithm: str) -> dict[str, Any]:
        """The claims, after checking the signature, the times, the issuer and the audience."""
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audiences,
                issuer=self._settings.oidc_issuer,
                leeway=CLOCK_SKEW_S,
                options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
            )
        except jwt.ExpiredSignatureError:
            raise InvalidTokenError("The token has expired. Get a new one from the identity provider.") from None
        except jwt.InvalidAudienceError:
            raise InvalidTokenError("The token was issued for another server (aud).") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError):
            raise InvalidTokenError("The token is invalid.") from None
        if not all(_is_numeric_date(claims.get(name, 0)) for name in NUMERIC_DATE_CLAIMS):
            raise InvalidTokenError("The token is invalid.")
        if not 0 < len(claims["sub"]) <= MAX_SUBJECT_CHARS:
            raise InvalidTokenError("The token names no user (sub).")
        return claims

    def _check_scope(self, claims: dict[str, Any]) -> None:
        required = self._settings.oidc_scope.split()
        granted = {scope for name in ("scope", "scp") for scope in _scope_words(claims.get(name))}
        if missing := [scope for scope in required if scope not in granted]:
            raise InvalidTokenError(
                f"The token lacks the scope {' '.join(missing)}.",
                error="insufficient_scope",
                scope=self._settings.oidc_scope,
            )


def token_verifier(settings: Settings, users: Callable[[], Awaitable[UserDirectory]]) -> OidcTokenVerifier | None:
    """The verifier of the identity provider's tokens; None if there is no provider."""
    return OidcTokenVerifier(settings, users) if settings.oidc_issuer else None


def accepted_audiences(settings: Settings) -> tuple[str, ...]:
    """The accepted values of a token's `aud`, the usual one first."""
    return settings.oidc_audience or (_resource_uri(settings), f"{_resource_uri(settings)}/")


def resource_metadata(settings: Settings) -> dict[str, object]:
    """This server's metadata as a protected resource (RFC 9728)."""
    document: dict[str, object] = {
        "resource": _resource_uri(settings),
        "authorization_servers": [settings.oidc_issuer],
        "bearer_methods_supported": ["header"],
        "resource_name": "mcp-server-claude",
    }
    if settings.oidc_scope:
        document["scopes_supported"] = settings.oidc_scope.split()
    return document


def check_oidc_settings(settings: Settings) -> None:
    """Check the settings of the identity provider.

    Raises:
        ConfigurationError: A setting is missing or unsafe.
    """
    if not _public_base_url(settings):
        raise ConfigurationError(
            "MCP_CLAUDE_OIDC_ISSUER requires MCP_CLAUDE_PUBLIC_URL: tokens must be issued for this server.",
            kind="settings",
        )
    for name in ("oidc_issuer", "oidc_jwks_url"):
        url = cast("str", getattr(settings, name))
        if url and not is_safe_url(url):
            raise ConfigurationError(f"MCP_CLAUDE_{name.upper()} must begin with https://.", kind="settings")


def _unverified_header(token: str) -> tuple[str, str | None]:
    """A token's algorithm and key id, which are not verified yet.

    Raises:
        InvalidTokenError: It is not a JWT, or its algorithm is not accepted.
    """
    if len(token) > MAX_TOKEN_CHARS:
        raise InvalidTokenError("The token is too long.")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidTokenError("The token is invalid.") from None
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or not isinstance(key_id, str | None):
        raise InvalidTokenError("The token's signature algorithm is not accepted.")
    return algorithm, key_id


def _public_base_url(settings: Settings) -> str:
    return settings.public_url.rstrip("/")


def _resource_uri(settings: Settings) -> str:
    """The canonical URI of the MCP server (MCP specification, "Authorization", resource parameter)."""
    return f"{_public_base_url(settings)}{MCP_PATH}"


def _is_numeric_date(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scope_words(value: object) -> Sequence[str]:
    """A token's scopes: a string of words (RFC 9068), or a list."""
    if isinstance(value, str):
        return value.split()
    return [scope for scope in cast("list[object]", value) if isinstance(scope, str)] if isinstance(value, list) else []


def _quotable_text(text: str) -> str:
    """Text without characters that a quoted header value must not contain (RFC 6750, section 3)."""
    return "".join(character for character in text if " " <= character <= "~" and character not in '"\\')
