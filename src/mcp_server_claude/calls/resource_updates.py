"""Notes that a call, a thread, a job or the list of a user's resources has changed in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Callable


@frozen_dataclass()
class ResourceChange:
    """A change of what is at an address, such as `claude://threads/t_1`."""

    address: str


@frozen_dataclass()
class ResourceListChange:
    """A change of the list of a user's resources: one is new, or was deleted."""

    user: str


ResourceEvent: TypeAlias = ResourceChange | ResourceListChange


class ResourceUpdates:
    """The listeners of changes."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[ResourceEvent], None]] = []

    def call_changed(self, call_id: str, thread: str) -> None:
        """Publish that a call has ended, and with it a turn of its thread, if it has one."""
        self._notify_listeners(ResourceChange(f"claude://calls/{call_id}"))
        if thread:
            self._notify_listeners(ResourceChange(f"claude://threads/{thread}"))

    def job_changed(self, job_id: str) -> None:
        """Publish that an item of a job, or the job, has ended."""
        self._notify_listeners(ResourceChange(f"claude://jobs/{job_id}/output"))

    def list_changed(self, user: str) -> None:
        """Publish that a user has another thread, job or file, or one less."""
        self._notify_listeners(ResourceListChange(user))

    def _notify_listeners(self, event: ResourceEvent) -> None:
        for listener in list(self.listeners):
            listener(event)
