"""One message batch: its items, the result of each, and what the API says of the whole.

Source: platform.claude.com/docs/en/api/messages/batches, as documented by November 2026 (docstrings of
anthropic-sdk-python 2.14.0, read on 2026-11-29).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from mcp_server_claude.simulator import sse_format
from mcp_server_claude.simulator.json_body import as_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.simulator.api_errors import ApiError
    from mcp_server_claude.simulator.json_body import Object

BATCH_TTL = timedelta(hours=24)
"""The time after its creation at which a batch ends, whatever it has processed."""
FINAL_STATUSES = ("succeeded", "errored", "canceled", "expired")


@dataclass(slots=True, kw_only=True)
class SimulatedBatchItem:
    """One request of a batch; `result` is None until it is processed."""

    custom_id: str
    params: Object
    result: Object | None = None


@dataclass(slots=True, kw_only=True)
class SimulatedBatch:
    """A batch of one account. `headers` are those of the request that created it, and hold for every item.

    `clock_offset` is the time that the API's clock is ahead of this machine's.
    """

    id: str
    account: str
    key: str
    headers: Mapping[str, str]
    base_url: str
    items: list[SimulatedBatchItem]
    clock_offset: timedelta = timedelta(0)
    created: datetime = field(init=False)
    status: Literal["in_progress", "canceling", "ended"] = "in_progress"
    cancel_initiated: datetime | None = None
    ended: datetime | None = None
    archived: datetime | None = None

    def __post_init__(self) -> None:
        self.created = self._now()

    def end(self, *, unprocessed: Literal["canceled", "expired"] | None = None) -> None:
        """End the processing; every item without a result gets the status `unprocessed`."""
        for item in self.items:
            if item.result is None and unprocessed is not None:
                item.result = {"type": unprocessed}
        self.status = "ended"
        self.ended = self._now()

    def cancel(self) -> None:
        """Begin to cancel the batch."""
        self.status = "canceling"
        self.cancel_initiated = self._now()

    def _now(self) -> datetime:
        return datetime.now(UTC) + self.clock_offset

    def to_json(self) -> Object:
        """The batch as every endpoint returns it; the counts move only when the whole batch has ended."""
        statuses = Counter(as_text((item.result or {}).get("type")) for item in self.items)
        has_ended = self.status == "ended"
        counts: Object = {name: statuses[name] if has_ended else 0 for name in FINAL_STATUSES}
        readable = has_ended and self.archived is None
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": self.status,
            "request_counts": {"processing": 0 if has_ended else len(self.items), **counts},
            "ended_at": _rfc3339(self.ended),
            "created_at": _rfc3339(self.created),
            "expires_at": _rfc3339(self.created + BATCH_TTL),
            "archived_at": _rfc3339(self.archived),
            "cancel_initiated_at": _rfc3339(self.cancel_initiated),
            "results_url": f"{self.base_url}/v1/messages/batches/{self.id}/results" if readable else None,
        }

    def results_jsonl(self) -> bytes:
        """The results, a line each, in an order that is not that of the requests."""
        shuffled = sorted(self.items, key=lambda item: hashlib.sha256(item.custom_id.encode()).digest())
        return b"".join(
            sse_format.json_bytes({"custom_id": item.custom_id, "result": item.result}) + b"\n" for item in shuffled
        )


def succeeded_result(message: Object) -> Object:
    """The result of an item that was answered, a refusal included."""
    return {"type": "succeeded", "message": message}


def errored_result(error: ApiError, request_id: str) -> Object:
    """The result of an item that was not answered."""
    return {"type": "errored", "error": error.response_body(request_id)}


def _rfc3339(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
