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
from mcp_server_claude.settings_sources import APP_NAME, ENV_PREFIX, expand_home, is_placeholder, without_copying_marks

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
        description="The Anthropic API key of this server. With it, only `MCP_CLAUDE_BASE_URL` redirects requests and "
        "`ANTHROPIC_BASE_URL` is ignored. Not set: the credentials of the SDK (`ANTHROPIC_API_KEY`, "
        "`ANTHROPIC_AUTH_TOKEN`, or a profile).",
    )
    keyring: str = Field(
        default="",
        description="The name of a key in the keyring of the operating system (`mcp-server-claude keys set`). It is "
        "used if `MCP_CLAUDE_API_KEY` is not set. Needs the extra `keyring`.",
    )
    base_url: str = Field(
        default="",
        description="The URL of the Messages API, e.g. a gateway (`https://…`). Not set: Anthropic's own API, or "
        "`ANTHROPIC_BASE_URL` if `MCP_CLAUDE_API_KEY` is not set.",
    )
    platform: PlatformName = Field(
        default="anthropic",
        description="The platform that serves Claude: `anthropic` (Anthropic's API or a gateway), `aws` (Claude "
        "Platform on AWS), `bedrock`, `bedrock-mantle` (Bedrock's Messages API), `vertex` or `foundry`. Region, "
        "project and credentials come from the variables of the cloud ([platforms](platforms.md)).",
    )
    auth_header: Literal["authorization", "x-api-key"] = Field(
        default="authorization",
        description="The header that carries the key: `authorization` (a bearer token, as the SDK sends it) or "
        "`x-api-key` (for gateways that read only this header).",
    )
    http_backend: Literal["aiohttp", "httpx"] = Field(
        default="aiohttp",
        description="The HTTP library for requests to the API: `aiohttp` (about a quarter of the CPU time while an "
        "answer streams) or `httpx`. With a SOCKS proxy `httpx` is always used.",
    )
    preload: bool = Field(
        default=False,
        description="Over stdio: import the SDK at the start instead of at the first call. The first call then starts "
        "half a second sooner, and the idle server takes 25 MB more memory.",
    )
    model: str = Field(
        default="sonnet",
        description="The model of calls that name none: an exact id, or a family (`opus`, `sonnet`, `haiku`, `fable`) "
        "for its newest active model.",
    )
    fallback_model: str = Field(
        default="",
        description="The model that answers if the requested one is overloaded or refuses: an exact id or a family. "
        "With it, an answer is sent only when it is complete, because it could still be withdrawn. Not set: no "
        "fallback.",
    )
    progress: Literal["auto", "text", "status"] = Field(
        default="auto",
        description="The content of progress messages: `text` (the text of the answer; the messages joined are the "
        "answer), `status` (one line about the state), or `auto` (`status` for clients that show only the latest "
        "message, otherwise `text`).",
    )
    progress_interval_s: float = Field(
        default=0.1, ge=0.01, le=10, description="Seconds for which text is collected into one notification."
    )
    heartbeat_s: float = Field(
        default=10.0,
        ge=0.05,
        le=240,
        description="Seconds without a notification after which one is sent without new text.",
    )
    footer: bool = Field(
        default=True, description="End each answer with a line that names model, tokens, cost and time."
    )
    data_dir: Path = Field(
        default_factory=lambda: user_data_path(APP_NAME),
        description="The directory of the ledger and the caches (directory mode 0700, file mode 0600).",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="URL of a PostgreSQL database that several servers share (`postgresql://user:password@host/name`), "
        "instead of a file in the data directory. Needs the extra `postgres`.",
    )
    database_connections: int = Field(
        default=4,
        ge=3,
        le=100,
        description="Maximum number of connections of this server to the PostgreSQL database: one writes, the others "
        "read and are closed when idle.",
    )
    models_wait_s: float = Field(
        default=2.0, ge=0, le=60, description="Maximum number of seconds that a call waits for the list of models."
    )
    deadline_s: float = Field(
        default=3600.0, gt=0, description="Maximum number of seconds of a call, including retries and continuations."
    )
    retry_for_s: float = Field(
        default=300.0,
        ge=0,
        description="Maximum number of seconds for which failing requests are retried. 0: no retries.",
    )
    max_retries: int = Field(
        default=8,
        ge=0,
        le=100,
        description="Maximum number of consecutive failures before a call fails.",
    )
    max_concurrent: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Maximum number of concurrent calls; further calls wait. 0: 8 over stdio, 64 over HTTP.",
    )
    max_concurrent_items: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Maximum number of items of background jobs that are answered concurrently, in addition to other "
        "calls. The rate limits of the API can lower it. 0: the same as `MCP_CLAUDE_MAX_CONCURRENT`.",
    )
    bytes_timeout_s: float = Field(
        default=240.0,
        gt=0,
        description="Seconds without a byte from the API after which a stream counts as broken (silences of 185 s "
        "were measured while a model thinks).",
    )
    event_timeout_s: float = Field(
        default=900.0,
        gt=0,
        description="Seconds without an event, outside a thinking block, after which a stream counts as broken.",
    )
    thinking_count: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Request the beta that counts thinking tokens while they are produced, for the status line and "
        "estimates, and use the betas that keep the thinking of a thread valid. `auto`: only with Anthropic's own API.",
    )
    thinking_display: Literal["auto", "summarized", "omitted"] = Field(
        default="auto",
        description="Request a summary of Claude's thinking for the status line and the page: `summarized` or "
        "`omitted`. `auto`: a summary only from Anthropic's own API and only if a client shows it, because it delays "
        "the first words of the answer. The cost of thinking is the same.",
    )
    budget_usd_per_day: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="Maximum cost of all calls together in a UTC day, in dollars. Not set: no limit.",
    )
    confirm_above_usd: float | None = Field(
        default=None,
        ge=0,
        le=1e9,
        description="Cost in dollars above which a call needs the approval of its user: the MCP client asks "
        "(elicitation), the shell asks on the terminal, the page asks in a dialog, and `POST /chat` answers 402 with "
        "a token that approves the cost. The maximum cost of the call counts, which `max_usd` and `max_tokens` lower. "
        "A client that cannot ask gets an error. Not set: no approval.",
    )
    user_usd_per_day: float | None = Field(
        default=None,
        ge=0,
        le=1e9,
        description="Maximum cost of the calls of each user of the HTTP server in a UTC day, in dollars, unless "
        "`mcp-server-claude user` sets another limit. Not set: no limit.",
    )
    user_calls_per_minute: int = Field(
        default=60, ge=0, description="Maximum number of calls that each user may start per minute. 0: no limit."
    )
    user_concurrent: int = Field(
        default=8,
        ge=0,
        description="Maximum number of concurrent calls of each user. 0: no limit.",
    )
    retention_days: float = Field(
        default=30.0,
        ge=0,
        description="Days for which the text of calls is stored, so that an answer can be read again. 0: the text is "
        "deleted as soon as it is delivered. Token counts and costs are always kept.",
    )
    cache: Literal["5m", "1h", "off"] = Field(
        default="5m",
        description="Lifetime of the prompt cache of the API, from which the next turn of a thread is read at a "
        "fraction of the price: 5 minutes, 1 hour, or `off`. Writing to the cache costs a quarter more than plain "
        "input (`1h`: twice as much). Short prompts are never cached.",
    )
    roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Directories that `files` may read, in addition to the working directory (or "
        "`CLAUDE_PROJECT_DIR`): separated as in PATH, or a list in the file.",
    )
    project_dir: str = Field(
        default="",
        description="The project directory that `files` may read. Claude Code sets `CLAUDE_PROJECT_DIR` for it. Not "
        "set: the working directory.",
    )
    project: str = Field(
        default="",
        max_length=100,
        description="The name of the project to which the ledger assigns requests. Not set: the name of the project "
        "directory over stdio and at the shell, and none over HTTP.",
    )
    allow_files: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="File names that look secret (`.env`, `*.pem`, …) but may be read: globs on the name or on the "
        "path below its root, where `*` also matches `/`; separated by commas, or a list in the file.",
    )
    allow_file_ids: bool = Field(
        default=False,
        description="Over HTTP: accept every file id of the Files API (`file_…`) from every user. A user can then "
        "read all files of the workspace, including those of other users. Off: a user can name only files that this "
        "server issued to them. Over stdio every id is accepted.",
    )
    uploads: bool = Field(
        default=False,
        description='Upload large PDFs and images, and data files for `tools=["code"]`, through the Files API instead '
        "of sending them with each request. Anthropic then stores the data of the user until it is deleted there, for "
        "at most 90 days.",
    )
    max_files: int = Field(default=100, ge=1, le=1000, description="Maximum number of files of a call.")
    detach_after_s: float | None = Field(
        default=None,
        ge=0,
        description="Seconds after which a call of `claude_ask` or `claude_map` continues as a background job. It "
        "returns the text so far, or a task if the client supports tasks. 0: never. Not set: 55 for clients that "
        "support tasks or are known to end calls at 60 s (Claude Desktop), never for others.",
    )
    inline_chars: int | None = Field(
        default=None,
        ge=1_000,
        description="Maximum number of characters of an answer in a tool result. A longer answer is cut there, and "
        "the result links to the complete text. Not set: 480,000 for clients that cut longer results, no limit for "
        "others.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged to stderr."
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="The format of stderr: `text`, or `json` with one object per line. Each call is one line, without "
        "the text of prompt or answer.",
    )
    trace_content: bool = Field(
        default=False,
        description="Include prompts and answers in OpenTelemetry spans. Off: spans hold only numbers and names.",
    )
    forward_traceparent: bool = Field(
        default=False,
        description="Send the trace id of a call to the API, in the header `traceparent`.",
    )
    telemetry_users: bool = Field(
        default=False,
        description="Include the name of the user in spans and metrics. Off: only the ledger and the log hold it.",
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
        bare = without_copying_marks(value)
        if not is_placeholder(bare):
            return bare
        return None if info.field_name in {"api_key", "metrics_token", "database_url"} else ""

    @field_validator("data_dir", mode="after")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        return expand_home(str(value))

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

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
            raise ValueError("it contains what looks like an API key; put the key in MCP_CLAUDE_API_KEY")
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
        """Read the settings. Never fails: the user of a server that exits sees only "connection closed"."""
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
