"""Logging to stderr: a line for each call, and warnings for the operator. Never content, never a key."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from mcp_server_claude import number_formatting
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.redaction import printable, redact

if TYPE_CHECKING:
    from types import TracebackType

    from mcp_server_claude.call_types import Call, Usage
    from mcp_server_claude.settings import Settings

ExceptionInfo: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]"
CallEnd: TypeAlias = Literal["complete", "incomplete", "failed", "cancelled"]
"""How a call ended."""

LINE_FORMAT = "%(levelname)s %(name)s: %(message)s"
PACKAGE_LOGGER = "mcp_server_claude"
NOISY_LOGGERS = ("aiohttp", "anthropic", "httpx2", "httpcore2", "mcp", "urllib3")
"""They log each request."""

_call_log = logging.getLogger("mcp_server_claude.call")


@frozen_dataclass(kw_only=True)
class CallOutcome:
    """A call that has ended, for those who watch. `model` is what was asked for, `kind` that of its failure."""

    call: Call
    end: CallEnd
    usage: Usage
    model: str = ""
    kind: str = ""


def setup_logging(settings: Settings) -> None:
    """One handler on stderr, before the SDK installs its own. Whoever has logging set up already keeps it.

    `debug` is for our own lines: other packages log at that level what they send, which is what was asked and answered.
    """
    root = logging.getLogger()
    level = settings.log_level.upper()
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter() if settings.log_format == "json" else RedactingFormatter(LINE_FORMAT))
        root.addHandler(handler)
        root.setLevel("INFO" if level == "DEBUG" else level)
        logging.getLogger(PACKAGE_LOGGER).setLevel(level)
    for chatty in NOISY_LOGGERS:
        logging.getLogger(chatty).setLevel(logging.INFO if settings.log_level == "debug" else logging.WARNING)


def log_only_bugs() -> None:
    """Log nothing but the tracebacks of bugs to stderr: for the shell, whose errors say all the rest."""
    logging.disable(logging.WARNING)
    logging.getLogger().addHandler(logging.NullHandler())
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter(LINE_FORMAT))
    logging.getLogger(PACKAGE_LOGGER).addHandler(handler)


def log_call(outcome: CallOutcome) -> None:
    """One line for a call: who asked what model, how it ended, what it took."""
    call, usage = outcome.call, outcome.usage
    cost = "cost unknown" if usage.cost_usd is None else f"${usage.cost_usd:.6f}"
    _call_log.info(
        "%s %s %s: %s, %d in, %d cached, %d out, %s, %.1f s, %s, user %s",
        call.tool,
        call.id,
        usage.model or outcome.model or call.model or "-",
        f"{outcome.end} ({outcome.kind})" if outcome.kind else outcome.end,
        usage.input_tokens + usage.cache_creation_input_tokens,
        usage.cache_read_input_tokens,
        usage.output_tokens,
        cost,
        usage.duration_s,
        number_formatting.format_count(usage.attempts, "request"),
        call.user,
        extra={"fields": _log_fields(outcome)},
    )


def _log_fields(outcome: CallOutcome) -> dict[str, object]:
    """Fields of a call's log line for programs: names of the usage report, never content."""
    call, usage = outcome.call, outcome.usage
    return {
        "event": "call",
        "call_id": call.id,
        "end": outcome.end,
        "failure": outcome.kind or None,
        "user": call.user,
        "tool": call.tool,
        "source": call.source,
        "client": call.client or None,
        "thread": call.thread or None,
        "model": usage.model or None,
        "requested_model": outcome.model or call.model or None,
        "input_tokens": usage.input_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_creation_input_tokens": usage.cache_creation_input_tokens,
        "output_tokens": usage.output_tokens,
        "thinking_tokens": usage.thinking_tokens,
        "web_searches": usage.web_searches,
        "cost_usd": usage.cost_usd,
        "estimated": usage.estimated,
        "stop_reason": usage.stop_reason,
        "attempts": usage.attempts,
        "retries": usage.retries,
        "ttft_s": usage.ttft_s,
        "duration_s": usage.duration_s,
        "request_ids": list(usage.request_ids),
        "trace_id": call.trace_id or None,
    }


class RedactingFormatter(logging.Formatter):
    """A formatter whose lines, tracebacks included, hold no key."""

    def format(self, record: logging.LogRecord) -> str:
        """The formatted line without keys."""
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The first line, in which a control character cannot forge another line or reach a terminal."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802 - logging's name
        """The traceback, whose lines hold no control characters."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


class JsonFormatter(logging.Formatter):
    """A formatter that makes a line of JSON of each record: `ts`, `level`, `logger`, `event` and what belongs to it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one JSON object, without keys."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        line |= getattr(record, "fields", None) or {"event": "log", "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Not the whole line: what looks like a key may end where a quote of JSON begins.
        clean = {name: redact(value) if isinstance(value, str) else value for name, value in line.items()}
        return json.dumps(clean, default=str)  # ASCII, since a line with half a surrogate pair could not be written
