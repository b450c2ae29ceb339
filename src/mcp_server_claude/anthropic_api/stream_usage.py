"""The usage of one streamed message: its counts, checked, and the attempts that the API bills one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mcp_server_claude.call_types import TokenCounts
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.redaction import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT_FIELDS = frozenset(
    {
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "ephemeral_5m_input_tokens",
        "ephemeral_1h_input_tokens",
        "thinking_tokens",
        "web_search_requests",
        "web_fetch_requests",
    }
)
"""The fields of usage, and of the objects in it, that are counts."""
USE_FIELDS = frozenset({"web_search_requests", "web_fetch_requests"})
MAX_TOKEN_COUNT = 100_000_000
"""The largest count of tokens that is believed. A request with server tools reads its context several times, and the
largest context has a million tokens."""
MAX_USE_COUNT = 10_000
"""The largest count of searches and fetched pages that is believed."""
MAX_ATTEMPTS = 100
"""Entries of `usage.iterations` that are believed."""
LATER_ZERO_FIELDS = frozenset({"input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"})
"""Counts that gateways repeat as 0 in `message_delta`. They are cumulative, so that a zero after a count says nothing
(platform.claude.com/docs/en/build-with-claude/streaming, as documented by November 2026). Output goes back to 0 in a
refusal."""
MAX_NAME_CHARS = 200
MESSAGE_ATTEMPT = "message"
FALLBACK_ATTEMPT = "fallback_message"


@frozen_dataclass(kw_only=True)
class BilledAttempt:
    """One entry of `usage.iterations`: a sampling run with counts and a model of its own.

    `kind` is the entry's type: `message`, `fallback_message`, `compaction` or `advisor_message`
    (`anthropic.types.beta.BetaIterationsUsage`, SDK 2.14).
    """

    kind: str
    model: str
    counts: TokenCounts
    cache_creation_1h_input_tokens: int


class StreamUsage:
    """Usage as the API sent it, `message_start` and `message_delta` merged.

    `has_final_output` is true once the end of the message has counted its output: the count of `message_start` is that
    of a beginning. `has_invalid_counts` is true once a value cannot be a count: it is left out, and the cost is
    unknown.
    """

    def __init__(self) -> None:
        self.raw: dict[str, object] = {}
        self.has_invalid_counts = False
        self.has_final_output = False
        self._counts: TokenCounts | None = None

    def merge_event(self, usage: object, *, is_final: bool) -> None:
        """Add the usage of an event. Its values replace the earlier ones; null and 0 input tokens replace nothing, and
        neither does a smaller output. `is_final`: the event has the message's end.
        """
        fields = {name: value for name, value in as_object(usage).items() if value is not None}
        iterations = fields.get("iterations")
        if isinstance(iterations, list) and len(cast("list[object]", iterations)) > MAX_ATTEMPTS:
            self.has_invalid_counts = True
            del fields["iterations"]
        for counted in _objects_with_counts(fields):
            for name in COUNT_FIELDS & counted.keys():
                limit = MAX_USE_COUNT if name in USE_FIELDS else MAX_TOKEN_COUNT
                if token_count(counted[name], limit) is None:
                    self.has_invalid_counts = True
                    del counted[name]
        if "iterations" not in fields:  # with them, the top level counts the last attempt alone
            for name in LATER_ZERO_FIELDS & fields.keys() & self.raw.keys():
                fields[name] = fields[name] or self.raw[name]
            if fields.get("output_tokens"):  # cumulative
                fields["output_tokens"] = max(_output_tokens(fields), _output_tokens(self.raw))
        self.has_final_output = self.has_final_output or (is_final and "output_tokens" in fields)
        self.raw |= fields
        self._counts = None

    def counts(self) -> TokenCounts:
        """The counts of the top level."""
        if self._counts is None:
            self._counts = _read_counts(self.raw)
        return self._counts

    def word(self, name: str) -> str | None:
        """A field that is a word, such as `service_tier`; None where the API sends none."""
        value = self.raw.get(name)
        return as_name(value) or None if isinstance(value, str) else None

    @property
    def cache_creation_1h_input_tokens(self) -> int:
        """The tokens written to the cache for an hour, which cost more than those for five minutes."""
        return _written_for_an_hour(self.raw)

    @property
    def attempts(self) -> tuple[BilledAttempt, ...]:
        """The entries of `usage.iterations`, in their order; empty where the API sends none."""
        return tuple(
            BilledAttempt(
                kind=as_name(entry.get("type")),
                model=as_name(entry.get("model")),
                counts=_read_counts(entry),
                cache_creation_1h_input_tokens=_written_for_an_hour(entry),
            )
            for entry in _object_list(self.raw.get("iterations"))
        )


def _output_tokens(usage: dict[str, object]) -> int:
    return token_count(usage.get("output_tokens")) or 0


def token_count(value: object, limit: int = MAX_TOKEN_COUNT) -> int | None:
    """The value if it is a count; None for a boolean, a text, a negative number, or one above the limit."""
    return value if type(value) is int and 0 <= value <= limit else None


def as_object(value: object) -> dict[str, object]:
    """The value if it is a JSON object, else an empty one."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def as_name(value: object) -> str:
    """A name from upstream as text that can be logged and shown; empty for what is no text."""
    return printable(value[:MAX_NAME_CHARS]) if isinstance(value, str) else ""


def _objects_with_counts(usage: dict[str, object]) -> Iterator[dict[str, object]]:
    yield usage
    for value in usage.values():
        for entry in (as_object(value), *_object_list(value)):
            yield entry
            yield as_object(entry.get("cache_creation"))


def _object_list(value: object) -> list[dict[str, object]]:
    entries = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, object]", entry) for entry in entries if isinstance(entry, dict)]


def _read_counts(usage: dict[str, object]) -> TokenCounts:
    return TokenCounts(
        input_tokens=token_count(usage.get("input_tokens")) or 0,
        cache_read_input_tokens=token_count(usage.get("cache_read_input_tokens")) or 0,
        cache_creation_input_tokens=token_count(usage.get("cache_creation_input_tokens")) or 0,
        output_tokens=token_count(usage.get("output_tokens")) or 0,
        thinking_tokens=token_count(as_object(usage.get("output_tokens_details")).get("thinking_tokens")) or 0,
        web_searches=token_count(as_object(usage.get("server_tool_use")).get("web_search_requests")) or 0,
    )


def _written_for_an_hour(usage: dict[str, object]) -> int:
    return token_count(as_object(usage.get("cache_creation")).get("ephemeral_1h_input_tokens")) or 0
