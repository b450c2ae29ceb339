"""The log of requests: the upstream's own record, against which a ledger can be checked."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_server_claude.simulator.json_body import as_text
from mcp_server_claude.simulator.token_counting import token_count

if TYPE_CHECKING:
    from mcp_server_claude.simulator.event_plan import EventPlan
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.sampling_iterations import SamplingIteration
    from mcp_server_claude.simulator.token_counting import InputUsage

LOGGED_HEADERS = ("anthropic-version", "anthropic-beta", "user-agent", "x-stainless-retry-count", "traceparent")

UNLISTED_FIELDS = frozenset({"text_deltas", "headers", "rate_limit_headers", "iterations", "announced_input"})


@dataclass(slots=True, kw_only=True)
class LoggedRequest:
    """One `/v1/*` request. Times are `time.monotonic()` seconds, comparable across the processes of a Linux machine.

    `end` is `open` while the response is on its way, then `complete`, `disconnected` (the client left first) or
    `fault:<name>` (from the moment the fault happens; a stall is ended by the client and reads `disconnected`).
    `fault` names the fault chosen for the request, whatever became of it.
    An item of a batch has a record of its own, with `batch_id` and `custom_id`; the others have none.
    `iterations` are the runs of models that are billed one by one, if any. `announced_input` is what `message_start`
    counted: the input of the first iteration, and all that a client knows which did not read to the end.
    `paced_text_at` is when each text delta of an answer with a pace was sent, on a busy machine later than it was due.
    `key` names the header of the key, never the key. Tokens are those really streamed so far.
    """

    sequence: int
    request_id: str
    method: str
    path: str
    credential_header: str
    headers: dict[str, str]
    arrived_at: float
    body: Json = None
    status: int | None = None
    error_message: str | None = None
    fault: str | None = None
    stop_reason: str | None = None
    end: str = "open"
    first_byte_at: float | None = None
    ended_at: float | None = None
    input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0
    model: str = ""
    inference_geo: str = "global"
    service_tier: str = "standard"
    speed: str = "standard"
    batch_id: str | None = None
    custom_id: str | None = None
    refusal_category: str | None = None
    iterations: tuple[SamplingIteration, ...] = field(default=(), repr=False)
    announced_input: InputUsage | None = field(default=None, repr=False)
    web_searches: int = 0
    is_continuation: bool = False
    thinking_chars: int = 0
    visible_chars: int = 0
    rate_limit_headers: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    text_deltas: list[str] = field(default_factory=list[str], repr=False)
    paced_text_at: list[float] = field(default_factory=list[float], repr=False)

    @property
    def text(self) -> str:
        """The answer text streamed so far, its surrogate pairs joined."""
        joined = "".join(self.text_deltas)
        return joined.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")

    @property
    def output_tokens(self) -> int:
        """Tokens streamed so far, thinking included."""
        return token_count(self.thinking_chars + self.visible_chars)

    def record_start(self, input_usage: InputUsage) -> None:
        """`message_start` has been sent: the input of the first iteration is known to the client."""
        self.announced_input = input_usage
        self.record_input(input_usage)

    def record_input(self, input_usage: InputUsage) -> None:
        """The input is known to the client."""
        self.input_tokens = input_usage.uncached
        self.cache_read_input_tokens = input_usage.cache_read
        self.cache_creation_input_tokens = input_usage.cache_write_5m + input_usage.cache_write_1h
        self.cache_creation_1h_input_tokens = input_usage.cache_write_1h

    def record_message(self, plan: EventPlan, input_usage: InputUsage) -> None:
        """A whole message has been produced: it counts with all of its input and output."""
        self.record_input(input_usage)
        self.record_totals(plan)
        self.thinking_chars = sum(step.thinking_chars for step in plan.steps)
        self.visible_chars = sum(step.visible_chars for step in plan.steps)
        self.text_deltas.extend(step.text for step in plan.steps if step.text)
        self.stop_reason = as_text(plan.message["stop_reason"])

    def record_totals(self, plan: EventPlan) -> None:
        """The end of a message has been sent: the input of all its iterations is known."""
        self.record_input(plan.final_usage)
        self.iterations = plan.iterations

    def record_first_byte(self) -> None:
        """A byte of the response is on its way."""
        if self.first_byte_at is None:
            self.first_byte_at = time.monotonic()

    def record_end(self, outcome: str, at: float | None = None) -> None:
        """Close the record, once; a fault that has happened stays its end."""
        if self.end == "open":
            self.end = outcome
        if self.ended_at is None:
            self.ended_at = time.monotonic() if at is None else at

    def log_entry(self) -> Object:
        """The record as `GET /_simulator/requests` lists it."""
        names = [name for name in self.__slots__ if name not in UNLISTED_FIELDS]
        entry: Object = {name: getattr(self, name) for name in names}
        entry["headers"] = {name: value for name, value in self.headers.items()}  # noqa: C416 - a copy of exact type
        entry["output_tokens"] = self.output_tokens
        entry["text"] = self.text
        return entry
