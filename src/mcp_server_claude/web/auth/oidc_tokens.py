"""Tokens of an identity provider: this server as the resource server that the MCP specification describes.

A client without a token is told where to get one (RFC 9728). A token must be signed by the provider's keys, be meant
for this server (RFC 8707) and still hold. Nothing in a token says where its keys are or how it may be signed: `jku`,
`jwk` and `x5u` are not looked at, the algorithms are a short list, and each is tied to a kind of key (RFC 8725).

    token ──▶ its header, which only chooses among the provider's keys ──▶ signature ──▶ claims ──▶
    `Users.authenticate_identity`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import jwt
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from mcp_server_claude.errors import CallError, ConfigurationError, RequestError
from mcp_server_claude.web.auth.jwks_cache import ALGORITHMS, JwksCache, is_safe_url
from mcp_server_claude.web.route_dependencies import ServicesDep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcp_server_claude.services.lazy_services import Services
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.users.tokens_and_sessions import UserDirectory
    from mcp_server_claude.users.user import User

METADATA_PATH = "/.well-known/oauth-protected-resource"
MCP_PATH = "/mcp"
MAX_TOKEN_CHARS = 16_384
CLOCK_SKEW_S = 30.0
"""What two clocks may differ by."""
MAX_SUBJECT_CHARS = 255
"""OpenID Connect Core, section 2."""
NAME_CLAIMS = ("preferred_username", "email", "name")
"""The claims that may hold a name for people, the best first. Only a hint: whoever has it is known by `sub`."""


class InvalidTokenError(RequestError):
    """A token that is not taken; `error` and `scope` are RFC 6750's, for the `WWW-Authenticate` header."""

    def __init__(self, message: str, *, error: str = "invalid_token", scope: str = "") -> None:
        super().__init__(message, kind="forbidden" if error == "insufficient_scope" else "unauthorized")
        self.error = error
        self.scope = scope


class OidcTokenVerifier:
    """Checks tokens, and says who their bearer is here."""

    def __init__(
        self, settings: Settings, users: Callable[[], Awaitable[UserDirectory]], keys: JwksCache | None = None
    ) -> None:
        self._settings = settings
        self._users = users
        self._keys = keys or JwksCache(settings.oidc_issuer, settings.oidc_jwks_url)
        self._audiences = accepted_audiences(settings)

    async def authenticate(self, token: str) -> User:
        """The user that a token speaks for; at first sight a new one.

        Raises:
            Denied: The token does not hold here.
            TemporaryError: The provider's keys cannot be had.
            ConfigurationError: A setting is missing, or the ledger cannot be used.
        """
        claims = await self.verify_claims(token)
        hint = next((text for name in NAME_CLAIMS if isinstance(text := claims.get(name), str) and text), "")
        return await (await self._users()).authenticate_identity(self._settings.oidc_issuer, claims["sub"], hint)

    async def verify_claims(self, token: str) -> dict[str, Any]:
        """The claims of a token that holds.

        Raises:
            Denied: It does not.
            TemporaryError: The provider's keys cannot be had.
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
        """What `WWW-Authenticate` says: what is wrong with the token, if there was one, and where to get a good one."""
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
        """The claims, after the signature and whatever else has to be right."""
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
            raise InvalidTokenError("The token is not meant for this server (aud).") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError):
            raise InvalidTokenError("The token is not valid.") from None
        if not 0 < len(claims["sub"]) <= MAX_SUBJECT_CHARS:
            raise InvalidTokenError("The token does not say whose it is (sub).")
        return claims

    def _check_scope(self, claims: dict[str, Any]) -> None:
        wanted = self._settings.oidc_scope.split()
        granted = {scope for name in ("scope", "scp") for scope in _scope_words(claims.get(name))}
        if missing := [scope for scope in wanted if scope not in granted]:
            raise InvalidTokenError(
                f"The token lacks the scope {' '.join(missing)}.",
                error="insufficient_scope",
                scope=self._settings.oidc_scope,
            )


def token_verifier(settings: Settings, services: Services) -> OidcTokenVerifier | None:
    """What checks the tokens of the identity provider, where there is one."""
    return OidcTokenVerifier(settings, services.users) if settings.oidc_issuer else None


def accepted_audiences(settings: Settings) -> tuple[str, ...]:
    """What a token must be meant for, one of these, the usual one first."""
    return settings.oidc_audience or (_resource_uri(settings), f"{_resource_uri(settings)}/")


def resource_metadata(settings: Settings) -> dict[str, object]:
    """This server as RFC 9728 describes a protected resource."""
    described: dict[str, object] = {
        "resource": _resource_uri(settings),
        "authorization_servers": [settings.oidc_issuer],
        "bearer_methods_supported": ["header"],
        "resource_name": "mcp-server-claude",
    }
    if settings.oidc_scope:
        described["scopes_supported"] = settings.oidc_scope.split()
    return described


router = APIRouter(tags=["identity"])


@router.get(
    METADATA_PATH, responses={404: {"description": "There is no identity provider: tokens are the operator's."}}
)
@router.get(
    METADATA_PATH + MCP_PATH,
    responses={404: {"description": "There is no identity provider: tokens are the operator's."}},
)
async def get_resource_metadata(services: ServicesDep) -> Response:
    """Where clients get a token for this server (RFC 9728).

    Raises:
        RequestError: Nowhere; they are given out by the operator.
    """
    settings = services.settings
    if not settings.oidc_issuer:
        raise RequestError("This server has no identity provider: its operator gives out tokens.", kind="not_found")
    check_oidc_settings(settings)
    return JSONResponse(resource_metadata(settings), headers={"Cache-Control": "max-age=300"})


def check_oidc_settings(settings: Settings) -> None:
    """See that the settings are whole.

    Raises:
        ConfigurationError: Something is missing, or not safe.
    """
    if not _public_base_url(settings):
        raise ConfigurationError(
            "MCP_CLAUDE_OIDC_ISSUER needs MCP_CLAUDE_PUBLIC_URL: tokens must be meant for this server.", kind="settings"
        )
    for name in ("oidc_issuer", "oidc_jwks_url"):
        url = cast("str", getattr(settings, name))
        if url and not is_safe_url(url):
            raise ConfigurationError(f"MCP_CLAUDE_{name.upper()} must begin with https://.", kind="settings")


def _unverified_header(token: str) -> tuple[str, str | None]:
    """A token's algorithm and the id of its key, neither of which is to be believed yet.

    Raises:
        Denied: It is no JWT, or signed in a way that is not taken.
    """
    if len(token) > MAX_TOKEN_CHARS:
        raise InvalidTokenError("The token is too long.")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        raise InvalidTokenError("The token is not valid.") from None
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or not isinstance(key_id, str | None):
        raise InvalidTokenError("The token is signed in a way that is not taken here.")
    return algorithm, key_id


def _public_base_url(settings: Settings) -> str:
    return settings.public_url.rstrip("/")


def _resource_uri(settings: Settings) -> str:
    """The canonical URI of the MCP server (MCP specification, "Authorization", resource parameter)."""
    return f"{_public_base_url(settings)}{MCP_PATH}"


def _scope_words(value: object) -> Sequence[str]:
    """Scopes as a token may hold them: a text of words (RFC 9068), or a list."""
    if isinstance(value, str):
        return value.split()
    return [each for each in cast("list[object]", value) if isinstance(each, str)] if isinstance(value, list) else []


def _quotable_text(text: str) -> str:
    """Text as it may stand between quotes in a header (RFC 6750, section 3)."""
    return "".join(each for each in text if " " <= each <= "~" and each not in '"\\')
