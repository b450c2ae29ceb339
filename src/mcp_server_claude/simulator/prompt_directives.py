"""Directives to the simulator in a prompt: `[[sim: key=value key=value]]`, anywhere in the last real user prompt.

Several may stand in one prompt; later keys win. They are stripped from what the answer quotes. An unknown key or a
value that does not parse is a 400 that says so.

## directives

| key | value | what it does |
| --- | --- | --- |
| `tokens` | N | the answer has exactly N tokens |
| `text` | `base64url:...`, or a word | the answer, exactly; UTF-8 that may hold lone surrogates |
| `split` | `surrogates` | deltas part every surrogate pair, each half as a JSON escape |
| `chars` | N | characters in each delta |
| `ttft` | seconds | before the first byte of the response |
| `pace` | tokens/s | 0 is full speed |
| `think` | N | thinking tokens before the answer; 0 is none |
| `stop` | a stop reason | ends with it, after half of the answer or `at` characters; `tool_use` calls a tool |
| `category` | a refusal category | `stop_details.category` of `stop=refusal` (default: none) |
| `tool` | name | which tool `stop=tool_use` calls (default: the first) |
| `search` | `on`, `off`, N | searches of the web (default: one when offered and the prompt says search) |
| `fetch` | `on`, `off`, N | pages that are fetched (default: one when offered and the prompt holds an https URL) |
| `page` | N | tokens of a fetched page, before `max_content_tokens` cuts it |
| `results` | N | tokens of the results of one search |
| `compact` | N | the conversation is summarized first, in N tokens, as a gateway can ask for |
| `fallback` | a model | which model answers where the requested one refuses, as a gateway can ask for |
| `code` | `on`, `off` | whether code is run (default: when offered and the prompt says run, plot or compute) |
| `makes` | names, by commas | the files that the code makes; each holds what its ending says |
| `late` | `on` | tools are used after the answer's text, not before it; `stop=tool_use` then has a text |
| `ping` | seconds | a ping in every such silence |
| `anchor` | `off` | a continuation does not repeat the end of the partial, although asked to |
| `fault` | a name, below | what goes wrong |
| `at` | N, `headers` | after N characters; before the response's head (default: the middle); the fault's or stop's |
| `times` | N | of the fault or `batch`, else the stop: the first N requests of a prompt (`pause_turn`: once a turn) |
| `batch` | `expired`, `canceled`, `errored` | what becomes of the request as an item of a batch |
| `type` | an error type | of `fault=error` and `fault=status` |
| `status` | HTTP status | of `fault=status`; alone it implies that fault (default 529) |
| `retry-after` | seconds | a header of `fault=status` |
| `retry-after-ms` | milliseconds | a header of `fault=status` |
| `should-retry` | `true`, `false` | the `x-should-retry` header of `fault=status` |
| `pings` | `on` | `fault=stall` keeps sending pings |

| fault | what happens |
| --- | --- |
| `status` | an HTTP error |
| `spend_limit` | 429 `enforced_spend_limit_reached`, without `retry-after` |
| `user_spend_limit` | 400 `invalid_request_error`: the limit that the organization set itself |
| `error` | `event: error` in the stream, then a clean end |
| `drop` | the socket is reset |
| `fin` | the socket is closed inside a chunk |
| `eof` | the stream ends cleanly, without `message_delta` and `message_stop` |
| `nostop` | `message_delta` is sent, `message_stop` is not, then a clean end: complete |
| `stall` | silence on an open socket |
| `malformed` | one event of broken JSON, then the rest |
| `badindex` | a delta for a block that was never started, then the rest |
| `badutf8` | an event that is not UTF-8, then the rest |
| `html` | 200 `text/html` |
| `json` | 200 `application/json`, a whole message, where a stream was asked for |
| `empty` | 200 and no body |
| `redirect` | 302 to an HTML page |
| `huge` | the answer is 5 MB in a single event |
| `tiny` | the answer is 10,000 events of one character |
| `gzip` | the stream is gzip-encoded |
| `noevents` | 200, then comments, forever |
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal, cast, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

FaultName = Literal[
    "status", "spend_limit", "user_spend_limit", "error", "drop", "fin", "eof", "nostop", "stall", "malformed",
    "badindex", "badutf8",
    "html", "json", "empty", "redirect", "huge", "tiny", "gzip", "noevents",
]  # fmt: skip
FAULT_NAMES: tuple[FaultName, ...] = get_args(FaultName)
STOP_REASONS = (
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded",
)  # fmt: skip
REFUSAL_CATEGORIES = ("cyber", "bio", "frontier_llm", "reasoning_extraction", "general_harms")
STREAM_FAULTS: frozenset[FaultName] = frozenset(
    {"error", "drop", "fin", "eof", "stall", "malformed", "badindex", "badutf8"}
)
"""The faults that strike somewhere within a stream."""
_DIRECTIVE_MARK = re.compile(r"[ \t]*\[\[sim:(.*?)\]\]", re.DOTALL)
_BASE64_PREFIX = "base64url:"


class InvalidDirectiveError(ValueError):
    """A directive that cannot be read; its message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """The directives of a prompt; a field that is None was not given. Units: seconds, tokens, characters."""

    tokens: int | None = None
    text: str | None = None
    split: str | None = None
    chars: int | None = None
    ttft: float | None = None
    pace: float | None = None
    think: int | None = None
    stop: str | None = None
    category: str | None = None
    tool: str | None = None
    search: int | None = None
    fetch: int | None = None
    page: int | None = None
    results: int | None = None
    compact: int | None = None
    fallback: str | None = None
    code: bool | None = None
    makes: str | None = None
    late: bool | None = None
    ping: float | None = None
    anchor: bool | None = None
    fault: FaultName | None = None
    at: int | Literal["headers"] | None = None
    times: int | None = None
    batch: str | None = None
    type: str | None = None
    status: int | None = None
    retry_after: float | None = None
    retry_after_ms: float | None = None
    should_retry: bool | None = None
    pings: bool | None = None

    def with_defaults(self, defaults: Directive) -> Directive:
        """This directive, with `defaults` where it says nothing."""
        silent = {f.name: getattr(defaults, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **silent)


EMPTY_DIRECTIVE = Directive()


def parse_directives(prompt: str) -> tuple[Directive, str]:
    """The directive of a prompt and the prompt without it.

    Raises:
        InvalidDirectiveError: a key is unknown or a value does not parse.
    """
    found: dict[str, object] = {}
    marks = cast("list[str]", _DIRECTIVE_MARK.findall(prompt))
    for mark in marks:
        for pair in mark.split():
            key, _, value = pair.partition("=")
            reader = VALUE_PARSERS.get(key)
            if reader is None:
                raise InvalidDirectiveError(f"sim: there is no directive {key!r}.")
            try:
                found[key.replace("-", "_")] = reader(value)
            except ValueError as problem:
                raise InvalidDirectiveError(f"sim: {pair!r} cannot be read: {problem}.") from None
    if "status" in found:
        found.setdefault("fault", "status")
    return replace(EMPTY_DIRECTIVE, **found), _DIRECTIVE_MARK.sub("", prompt).strip() if marks else prompt


def directive(*, text: str | None = None, **keys: str | float) -> str:
    """A directive to put into a prompt, e.g. `directive(text="Ça va 😀", fault="drop", at=3)`; `_` stands for `-`."""
    pairs = [f"{key.replace('_', '-')}={value}" for key, value in keys.items()]
    if text is not None:
        pairs.append(f"text={_BASE64_PREFIX}{urlsafe_b64encode(text.encode('utf-8', 'surrogatepass')).decode()}")
    return f"[[sim: {' '.join(pairs)}]]"


def _parse_exact_text(value: str) -> str:
    if not value.startswith(_BASE64_PREFIX):
        return value
    coded = value.removeprefix(_BASE64_PREFIX)
    return urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode("utf-8", "surrogatepass")


def _parse_switch(value: str) -> bool:
    if value not in {"on", "off", "true", "false"}:
        raise ValueError("expected on, off, true or false")
    return value in {"on", "true"}


def _parse_switch_or_count(value: str) -> int:
    return int(value) if value.isdigit() else int(_parse_switch(value))


def _parse_count(value: str) -> int:
    if not value.isdigit():
        raise ValueError("expected a whole number from 0")
    return int(value)


def _parse_amount(value: str) -> float:
    amount = float(value)
    if not 0 <= amount < float("inf"):
        raise ValueError("expected a number from 0")
    return amount


def _parse_position(value: str) -> int | Literal["headers"]:
    return "headers" if value == "headers" else _parse_count(value)


def _choice_parser(*known: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
        return value

    return read


VALUE_PARSERS: dict[str, Callable[[str], object]] = {
    "tokens": _parse_count,
    "text": _parse_exact_text,
    "split": _choice_parser("surrogates"),
    "chars": _parse_count,
    "ttft": _parse_amount,
    "pace": _parse_amount,
    "think": _parse_count,
    "stop": _choice_parser(*STOP_REASONS),
    "category": _choice_parser(*REFUSAL_CATEGORIES),
    "tool": str,
    "search": _parse_switch_or_count,
    "fetch": _parse_switch_or_count,
    "page": _parse_count,
    "results": _parse_count,
    "compact": _parse_count,
    "fallback": str,
    "code": _parse_switch,
    "makes": str,
    "late": _parse_switch,
    "ping": _parse_amount,
    "anchor": _parse_switch,
    "fault": _choice_parser(*FAULT_NAMES),
    "at": _parse_position,
    "times": _parse_count,
    "batch": _choice_parser("expired", "canceled", "errored"),
    "type": str,
    "status": _parse_count,
    "retry-after": _parse_amount,
    "retry-after-ms": _parse_amount,
    "should-retry": _parse_switch,
    "pings": _parse_switch,
}
