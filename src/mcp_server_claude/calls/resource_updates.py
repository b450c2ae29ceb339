"""Notes that a call, a thread or a job of this process has changed, for those who follow its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class ResourceUpdates:
    """The listeners of changes. Each gets the address of the resource, such as `claude://threads/t_1`."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[str], None]] = []

    def call_changed(self, call_id: str, thread: str) -> None:
        """Publish that a call has ended, and with it a turn of its thread, if it has one."""
        self._notify_listeners(f"claude://calls/{call_id}")
        if thread:
            self._notify_listeners(f"claude://threads/{thread}")

    def job_changed(self, job_id: str) -> None:
        """Publish that an item of a job, or the job, has ended."""
        self._notify_listeners(f"claude://jobs/{job_id}/output")

    def _notify_listeners(self, address: str) -> None:
        for listener in list(self.listeners):
            listener(address)
