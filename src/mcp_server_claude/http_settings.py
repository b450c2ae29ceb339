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
        description="Over HTTP: seconds for which a call continues after its last reader has disconnected, so that "
        "the reader can resume. Then the call is stopped. 0: it is stopped at once; `inf`: never.",
    )
    max_body_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        description="Over HTTP: maximum size of a request body, in bytes. Files are sent as base64, which adds a "
        "third.",
    )
    body_timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Over HTTP: maximum number of seconds in which a request body must arrive, plus one for each 64 "
        "KiB of it.",
    )
    write_timeout_s: float = Field(
        default=300.0,
        gt=0,
        description="Over HTTP: seconds without progress after which a client that does not read its response is "
        "disconnected.",
    )
    drain_s: float = Field(
        default=25.0,
        ge=0,
        description="Over HTTP: seconds that running requests may take to finish after the server was told to stop.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Over HTTP: addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are "
        "trusted; separated by commas, or a list in the file. Not set: none is trusted.",
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Over HTTP: host names that the server accepts, in addition to `localhost`, its own address and "
        "the host of `MCP_CLAUDE_PUBLIC_URL`; separated by commas, or a list in the file.",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Over HTTP: origins of other sites whose pages may call the server (CORS), e.g. "
        "`https://tools.example`; they still need a token. Separated by commas, or a list in the file. Not set: none.",
    )
    metrics_token: SecretStr | None = Field(
        default=None,
        description="Over HTTP: a bearer token that grants access to `/metrics` and nothing else. Not set: only "
        "operators can read the metrics.",
    )
    public_url: str = Field(
        default="",
        description="Over HTTP: the public address of the server, e.g. `https://claude.example`. With https:// the "
        "cookies are secure even behind a proxy. Access tokens of an identity provider must be issued for this "
        "address.",
    )
    oidc_issuer: str = Field(
        default="",
        description="Over HTTP: the identity provider whose access tokens (JWTs) are accepted, exactly as in their "
        "claim `iss`. Needs `MCP_CLAUDE_PUBLIC_URL`. Not set: no identity provider.",
    )
    oidc_audience: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Over HTTP: values of the claim `aud`, of which an access token must have one; separated by "
        "commas, or a list in the file. Not set: `MCP_CLAUDE_PUBLIC_URL` followed by `/mcp`, as the MCP specification "
        "requires.",
    )
    oidc_jwks_url: str = Field(
        default="",
        description="Over HTTP: the URL of the identity provider's keys (JWKS). Not set: the URL in the metadata of "
        "the provider.",
    )
    oidc_scope: str = Field(
        default="", description="Over HTTP: scopes that an access token must have, separated by spaces. Not set: none."
    )
