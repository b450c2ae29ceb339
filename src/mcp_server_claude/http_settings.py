"""The settings of a server over HTTP: its readers, limits, proxies, hosts, and the identity provider."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode


class HttpSettings(BaseSettings):
    """The part of `Settings` that a server over stdio does not use."""

    session_days: float = Field(
        default=30.0, gt=0, le=3650, description="Over HTTP: days after which a browser must sign in again."
    )
    reader_grace_s: float = Field(
        default=60.0,
        ge=0,
        description="Over HTTP: seconds that an answer is still written after its last reader has gone, who may come "
        "back for it; then the call is stopped. 0 stops it at once, `inf` never.",
    )
    max_body_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        description="Over HTTP: bytes that a request may have; PDFs come as base64, which adds a third.",
    )
    body_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Over HTTP: seconds that a request's body may take to arrive, and one more for each 64 KiB of it.",
    )
    write_timeout_s: float = Field(
        default=300.0,
        gt=0,
        description="Over HTTP: seconds that a client may take nothing of what is sent to it before it is hung up on.",
    )
    drain_s: float = Field(
        default=25.0,
        ge=0,
        description="Over HTTP: seconds that requests in flight have to finish once the server is told to end.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Over HTTP: addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are "
        "believed; separated by commas, or a list in the file. Not set: nobody's.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Over HTTP: host names that the server answers to, besides `localhost`, the address it "
        "listens on and that of `MCP_CLAUDE_PUBLIC_URL`; separated by commas, or a list in the file.",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Over HTTP: origins of other sites whose pages may use the server, e.g. `https://tools.example`; "
        "they still need a token (CORS).",
    )
    metrics_token: SecretStr | None = Field(
        default=None,
        description="Over HTTP: a bearer token that may read `/metrics` and nothing else, besides an operator's.",
    )
    public_url: str = Field(
        default="",
        description="Over HTTP: where people reach the server, e.g. `https://claude.example`. An https:// here makes "
        "cookies secure behind a proxy, and tokens of an identity provider must be meant for it.",
    )
    oidc_issuer: str = Field(
        default="",
        description="Over HTTP: the identity provider whose access tokens (JWTs) are taken, exactly as its tokens name "
        "it in `iss`. Needs `MCP_CLAUDE_PUBLIC_URL`.",
    )
    oidc_audience: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="What such a token must be meant for (`aud`), one of these, separated by commas; not set: "
        "`MCP_CLAUDE_PUBLIC_URL` followed by `/mcp`, as the MCP specification asks.",
    )
    oidc_jwks_url: str = Field(
        default="", description="Where the provider's keys are; empty asks the provider's own metadata."
    )
    oidc_scope: str = Field(
        default="", description="Scopes that such a token must have, separated by spaces; empty asks for none."
    )
