"""A job as its user can see it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from mcp_server_claude.store.job_records import JobProgress, JobRecord

MAP_TOOL = "claude_map"
"""The tool of jobs with many items."""


@frozen_dataclass(kw_only=True)
class JobSnapshot:
    """A job with its progress. `call_id` is the call that answers a job of a single question, or empty."""

    record: JobRecord
    progress: JobProgress
    call_id: str = ""

    @property
    def state(self) -> str:
        """One word: `running`, `complete`, `incomplete` or `cancelled`."""
        return self.record.end or "running"

    @property
    def is_single(self) -> bool:
        """True for a single question, False for one prompt over many items."""
        return self.record.tool != MAP_TOOL

    @property
    def is_closed(self) -> bool:
        """True if nothing more will happen, unless the same request is made again."""
        return self.record.state == "closed"

    @property
    def cost_usd(self) -> float | None:
        """The cost so far in US dollars; None if nothing of it has a known price."""
        if not self.progress.cost_micros and self.progress.unpriced:
            return None
        return self.progress.cost_micros / 1e6

    def as_json(self) -> dict[str, object]:
        """The fields for a program."""
        record, progress = self.record, self.progress
        return {
            "id": record.id,
            "tool": record.tool,
            "state": self.state,
            "reason": record.reason,
            "model": record.model,
            "title": record.title,
            "batch": record.batch,
            "created_at": record.created_at,
            "ended_at": record.ended_at,
            "output": record.output,
            "call_id": self.call_id,
            "items": progress.items,
            "cost_usd": self.cost_usd,
            **{name: count for name, count in asdict(progress).items() if name != "cost_micros"},
        }
