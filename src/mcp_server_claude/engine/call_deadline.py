"""The deadline of a call: one span of time for its admission, its waits, its uploads, counts and requests together."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import number_formatting
from mcp_server_claude.errors import TemporaryError

if TYPE_CHECKING:
    from collections.abc import Generator

DEFAULT_DEADLINE_S = 3600.0


class CallDeadline:
    """The deadline of a call that begins now and may take `seconds`."""

    __slots__ = ("_seconds", "_started_at")

    def __init__(self, seconds: float = DEFAULT_DEADLINE_S) -> None:
        self._seconds = seconds
        self._started_at = time.monotonic()

    def elapsed_s(self) -> float:
        """Seconds since the call began."""
        return time.monotonic() - self._started_at

    def remaining_s(self) -> float:
        """Seconds that are left, 0 if there are none."""
        return max(0.0, self._seconds - self.elapsed_s())

    def error(self) -> TemporaryError:
        """The error for a call that took too long."""
        return TemporaryError(
            f"The call took longer than {number_formatting.format_seconds(self._seconds)}.", kind="deadline"
        )

    @contextmanager
    def enforce(self) -> Generator[None]:
        """Cancel the block when the deadline passes.

        Raises:
            TemporaryError: It has passed.
        """
        with anyio.move_on_after(self.remaining_s()) as scope:
            yield
        if scope.cancelled_caught:
            raise self.error()
