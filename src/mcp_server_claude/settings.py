"""The server's choices, read once: environment `MCP_CLAUDE_*` first, then a TOML file, then the defaults here.

A new choice is a field with the sentence that becomes its documentation (`docs/settings.md` is generated from this
file). Nothing else in the package reads the environment, except the SDK's own credential chain, which
`anthropic_api.credentials` asks.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias, cast

from platformdirs import user_data_path
from pydantic import Field, PrivateAttr, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from mcp_server_claude import settings_sources
from mcp_server_claude.http_settings import HttpSettings
from mcp_server_claude.settings_sources import APP_NAME, ENV_PREFIX, is_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEY_LIKE = re.compile(r"\bsk-(?:ant-)?[\w-]{8,}")
"""What looks like an API key of Anthropic's or of a gateway."""
UNDELIVERED_RETENTION_DAYS = 1.0
"""Days for which an answer that was never delivered can be read, with a retention of 0."""
CLIENT_RESULT_CHARS = 480_000
"""Claude Code takes results of 500,000 characters from a tool that says so (`anthropic/maxResultSizeChars`)."""


PlatformName: TypeAlias = Literal["anthropic", "aws", "bedrock", "bedrock-mantle", "vertex", "foundry"]
"""A platform that serves Claude; `anthropic_api.platforms` has a file for each."""


class Settings(HttpSettings):
    """Every choice of the server, frozen."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    api_key: SecretStr | None = Field(
        default=None,
        description="The Anthropic API key for this server alone. When it is set, only `MCP_CLAUDE_BASE_URL` "
        "redirects requests and `ANTHROPIC_BASE_URL` is ignored. Otherwise the SDK's own chain is used: "
        "`ANTHROPIC_API_KEY`, `ANTHROPIC_AUTH_TOKEN`, a profile.",
    )
    keyring: str = Field(
        default="",
        description="The name of a key in the keyring of the operating system, which is used where no "
        "`MCP_CLAUDE_API_KEY` is set (`mcp-server-claude keys set`). Needs the extra `keyring`.",
    )
    base_url: str = Field(
        default="",
        description="Where the Messages API is, e.g. a gateway's `https://…`. Empty means Anthropic's own "
        "(or `ANTHROPIC_BASE_URL` when no `MCP_CLAUDE_API_KEY` is set).",
    )
    platform: PlatformName = Field(
        default="anthropic",
        description="Where Claude is asked: `anthropic` (or a gateway in its place), `aws` (Claude Platform on AWS), "
        "`bedrock`, `bedrock-mantle` (Bedrock's Messages API), `vertex` or `foundry`. Region, project and credentials "
        "come from the cloud's own variables ([platforms](platforms.md)).",
    )
    auth_header: Literal["authorization", "x-api-key"] = Field(
        default="authorization",
        description="How the key is sent: `authorization` (Bearer, what the SDK does) or `x-api-key` "
        "(for gateways that read only that).",
    )
    http_backend: Literal["aiohttp", "httpx"] = Field(
        default="aiohttp",
        description="The HTTP library that carries requests to the API: `aiohttp` (parses in C, about a quarter of the "
        "CPU while an answer streams) or `httpx`. A SOCKS proxy is always used with `httpx`.",
    )
    preload: bool = Field(
        default=False,
        description="Over stdio: whether the SDK is imported at the start instead of at the first call, which then "
        "begins a second sooner, for 50 MB of memory in a server that may never be called.",
    )
    model: str = Field(
        default="sonnet",
        description="The model of calls that name none: an exact id, or a family (`opus`, `sonnet`, `haiku`, `fable`) "
        "for its newest active model.",
    )
    fallback_model: str = Field(
        default="",
        description="The model that answers instead when the requested one is overloaded or declines: an exact id or a "
        "family. With it, an answer is sent only when it is complete, since it may be withdrawn.",
    )
    progress: Literal["auto", "text", "status"] = Field(
        default="auto",
        description="What progress messages hold: `text` (the answer's text, lossless when joined), `status` (one "
        "line for a person), or `auto` (`status` for clients that show only the latest message, else `text`).",
    )
    progress_interval_s: float = Field(
        default=0.1, ge=0.01, le=10, description="Seconds over which text is gathered into one notification."
    )
    heartbeat_s: float = Field(
        default=10.0, ge=0.05, le=240, description="Seconds of silence after which a notification is sent all the same."
    )
    footer: bool = Field(
        default=True, description="End each answer with a line for its reader: model, tokens, cost, time."
    )
    data_dir: Path = Field(
        default_factory=lambda: user_data_path(APP_NAME),
        description="Where the ledger and caches are kept (directory 0700, files 0600).",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="URL of a PostgreSQL database that several servers share (`postgresql://user:password@host/name`), "
        "instead of a file in the data directory. Needs the extra `postgres`.",
    )
    models_wait_s: float = Field(
        default=2.0, ge=0, le=60, description="Seconds that a call waits at most for the list of models."
    )
    deadline_s: float = Field(
        default=3600.0, gt=0, description="Seconds that a whole call may take, retries and continuations included."
    )
    retry_for_s: float = Field(
        default=300.0, ge=0, description="Seconds of failing after which a call gives up; 0 never retries."
    )
    max_retries: int = Field(default=8, ge=0, le=100, description="Failures in a row after which a call gives up.")
    max_concurrent: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Concurrent calls; further ones wait. 0: 8 over stdio, 64 over HTTP.",
    )
    max_concurrent_items: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Items of background jobs that are answered at the same time at most, besides other calls; the "
        "API's rate limits make it fewer. 0: as many as `MCP_CLAUDE_MAX_CONCURRENT`.",
    )
    bytes_timeout_s: float = Field(
        default=240.0,
        gt=0,
        description="Seconds without a single byte from upstream after which a stream counts as broken "
        "(silences of 185 s have been seen while a model thinks).",
    )
    event_timeout_s: float = Field(
        default=900.0,
        gt=0,
        description="Seconds without an event, outside a thinking block, after which a stream counts as broken.",
    )
    thinking_count: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether the beta that counts thinking tokens while they are produced is asked for "
        "(`auto`: of Anthropic's own API only). It feeds the status line and estimates.",
    )
    thinking_display: Literal["auto", "summarized", "omitted"] = Field(
        default="auto",
        description="Whether Claude's thinking comes as a summary, for the status line and the page. `auto`: only of "
        "Anthropic's own API, and where somebody watches, since the first words of the answer come later with it. "
        "Thinking costs the same either way.",
    )
    budget_usd_per_day: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="Dollars that all calls of a UTC day may cost together; not set: no limit.",
    )
    confirm_above_usd: float | None = Field(
        default=None,
        ge=0,
        le=1e9,
        description="Dollars above which the user is asked before a call is sent: by the MCP client (elicitation), "
        "and on the terminal by the shell. The most that a call can cost counts, which `max_usd` and `max_tokens` "
        "lower. A client that cannot ask gets an error. `POST /chat` answers 402 with a token that approves the cost, "
        "and the page asks. Not set: never.",
    )
    user_usd_per_day: float | None = Field(
        default=None,
        ge=0,
        le=1e9,
        description="Dollars that the calls of each user may cost in a UTC day, where `mcp-server-claude user` set "
        "nothing else; not set: no limit. Users are those of the HTTP server.",
    )
    user_calls_per_minute: int = Field(
        default=60, ge=0, description="Calls that each user may start per minute; 0: no limit."
    )
    user_concurrent: int = Field(default=8, ge=0, description="Concurrent calls of each user; 0: no limit.")
    retention_days: float = Field(
        default=30.0,
        ge=0,
        description="Days that the text of calls is kept, so that an answer can be read again; 0 deletes it as soon as "
        "it is delivered. The accounts stay.",
    )
    cache: Literal["5m", "1h", "off"] = Field(
        default="5m",
        description="How long the API keeps what was sent, so that the next turn of a thread reads it at a fraction of "
        "the price. Writing costs a quarter more than not (`1h`: twice as much); short prompts are never cached.",
    )
    roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Directories that `files` may read, besides the working directory (or `CLAUDE_PROJECT_DIR`): "
        "separated as in PATH, or a list in the file.",
    )
    project_dir: str = Field(
        default="", description="The project that `files` may read; Claude Code sets `CLAUDE_PROJECT_DIR` for it."
    )
    project: str = Field(
        default="",
        max_length=100,
        description="The name of the project to which the ledger assigns requests. Not set: the name of the project's "
        "directory over stdio and at the shell, and none over HTTP.",
    )
    allow_files: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Names that look secret (`.env`, `*.pem`, …) and may be read all the same: globs on the "
        "name or the path below its root, where `*` crosses `/`; separated by commas, or a list in the file.",
    )
    allow_file_ids: bool = Field(
        default=False,
        description="Whether callers over HTTP may name any file of the Files API by its id (`file_…`). Every file of "
        "the workspace can be read like that, also those of other users; without it only files that this server issued "
        "to the same user are sent on. On stdio every id is sent on.",
    )
    uploads: bool = Field(
        default=False,
        description='Whether large PDFs and images, and with `tools=["code"]` data files, are uploaded through the '
        "Files API instead of sent along each time. It stores the user's data at Anthropic until it is deleted there, "
        "90 days at most.",
    )
    max_files: int = Field(default=100, ge=1, le=1000, description="Files that one call may send.")
    detach_after_s: float | None = Field(
        default=None,
        ge=0,
        description="Seconds after which a call of `claude_ask` or `claude_map` goes on as a background job and "
        "returns what is there, or a task to a client that takes tasks; 0 never. Not set: 55 for these clients and for "
        "those known to cut a call at 60 s (Claude Desktop), never for others.",
    )
    inline_chars: int | None = Field(
        default=None,
        ge=1_000,
        description="Characters of an answer that a result holds; of a longer one it holds the head, and a link to the "
        "whole. Not set: 480,000 for clients that cut longer results, no limit for others.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What is logged to stderr."
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="How stderr is written: `text`, or `json` with an object a line. Each call is one line, "
        "without anything of what was asked or answered.",
    )
    trace_content: bool = Field(
        default=False,
        description="Whether OpenTelemetry spans hold prompts and answers. Off, they hold numbers and names only.",
    )
    forward_traceparent: bool = Field(
        default=False,
        description="Whether a call's trace id goes on to the API, in the header `traceparent`.",
    )
    telemetry_users: bool = Field(
        default=False,
        description="Whether spans and metrics name the user. Off, only the ledger and the log do.",
    )

    def inline_limit(self, *, client_truncates: bool) -> int | None:
        """The characters that a result may hold, or None for any number.

        `client_truncates` says that the client itself would cut a longer one.
        """
        return self.inline_chars or (CLIENT_RESULT_CHARS if client_truncates else None)

    @property
    def text_retention_days(self) -> float:
        """Days for which the text of a job, or of a call that was never delivered, can be read."""
        return max(self.retention_days, UNDELIVERED_RETENTION_DAYS)

    @property
    def store_url(self) -> str:
        """The URL of the PostgreSQL database, a secret, or empty if the store is a file."""
        return self.database_url.get_secret_value() if self.database_url else ""

    @field_validator(
        "api_key", "metrics_token", "database_url", "base_url", "keyring", "model", "fallback_model", mode="before"
    )
    @classmethod
    def _strip_value(cls, value: object, info: ValidationInfo) -> object:
        """Spaces, newlines and quotes around a value are a copying accident; a placeholder is no value at all."""
        if not isinstance(value, str):
            return value
        bare = value.strip().strip("\"'").strip()
        if not is_placeholder(bare):
            return bare
        return None if info.field_name in {"api_key", "metrics_token", "database_url"} else ""

    @field_validator("database_url", mode="after")
    @classmethod
    def _require_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("it must begin with postgresql://")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _reject_misplaced_key(cls, value: object, info: ValidationInfo) -> object:
        """An API key in a field that is shown or logged is an error. `validate_url` handles the base URL."""
        values = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
        if info.field_name != "base_url" and any(isinstance(each, str) and KEY_LIKE.search(each) for each in values):
            raise ValueError("it holds what looks like an API key; put the key in MCP_CLAUDE_API_KEY")
        return cast("object", value)

    @field_validator(
        "roots", "allow_files", "trusted_proxies", "allowed_hosts", "allowed_origins", "oidc_audience", mode="before"
    )
    @classmethod
    def _split_list(cls, value: object, info: ValidationInfo) -> object:
        """A variable holds several values as PATH does, or between commas."""
        if not isinstance(value, str):
            return value
        separator = os.pathsep if info.field_name == "roots" else ","
        return tuple(part.strip() for part in value.split(separator) if part.strip())

    _problems: tuple[str, ...] = PrivateAttr(default=())
    _sources: dict[str, str] = PrivateAttr(default_factory=dict[str, str])

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each setting that could not be read; its default holds until the operator mends it."""
        return self._problems

    def source_of(self, name: str) -> str:
        """The source of a field's value: an environment variable's name, the file's path, or `default`."""
        return self._sources.get(name, "default")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed in: `load` has read the sources, so that one wrong value does not lose the rest."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @classmethod
    def load(cls) -> Settings:
        """Read the settings. Never fails: a server that exits tells its user only "connection closed"."""
        found = settings_sources.read_sources(cls)
        try:
            settings = cls(**found.values)
        except ValidationError as error:
            found = found.without_invalid(error)
            settings = cls(**found.values)
        return settings.with_diagnostics(found.problems, found.source_by_field)

    def with_diagnostics(self, problems: Iterable[str], sources: Mapping[str, str]) -> Self:
        """The same settings, knowing where they came from and what could not be read."""
        self._problems, self._sources = tuple(problems), dict(sources)
        return self
