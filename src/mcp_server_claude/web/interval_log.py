"""Warnings that a client can cause as often as it likes: one line of a kind a minute keeps the log readable."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger

LOG_INTERVAL_S = 60.0


class IntervalLog:
    """Warnings of one kind, of which each after the first is left out until the interval has passed."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._logged_at = -math.inf

    def warning(self, message: str) -> None:
        """Log a message, unless the one before it is too recent."""
        now = time.monotonic()
        if now >= self._logged_at + LOG_INTERVAL_S:
            self._logged_at = now
            self._logger.warning("%s", message)
