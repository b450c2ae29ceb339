"""Faults chosen by chance, and the HTTP errors that a directive asks for."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server_claude.simulator.api_errors import ERROR_MESSAGES, ApiError, error_type

if TYPE_CHECKING:
    from mcp_server_claude.simulator.prompt_directives import Directive, FaultName

RECOVERABLE_FAULTS: tuple[FaultName, ...] = ("status", "error", "drop", "fin", "eof")
FAULT_STATUSES = (429, 500, 529)
MAX_FAULT_POSITION = 400
OVERLOADED_STATUS = 529
SPEND_LIMIT_MESSAGE = (
    "You have reached your API usage limits: your organization has crossed its monthly API usage threshold. "
    "You will regain access on 2026-12-01 at 00:00 UTC."
)
USER_SPEND_LIMIT_MESSAGE = (
    "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
)
"""The limit that an organization or workspace has set itself: HTTP 400 (platform.claude.com/docs/en/api/rate-limits,
August 2026). The limit that Anthropic sets is HTTP 429, without `retry-after`."""


class RandomFaults:
    """A fault for one request in `1 / rate`, the same ones for the same seed and order of requests."""

    def __init__(self, rate: float, seed: int = 0, faults: tuple[FaultName, ...] = RECOVERABLE_FAULTS) -> None:
        self._rate = rate
        self._faults = faults
        self._random = random.Random(seed)

    def apply_to(self, directive: Directive) -> Directive:
        """The directive, with a fault when chance wants one and the prompt has not chosen its own."""
        strikes = self._random.random() < self._rate
        fault = self._random.choice(self._faults)
        status, place = (
            self._random.choice(FAULT_STATUSES),
            self._random.choice(("headers", self._random.randrange(MAX_FAULT_POSITION))),
        )
        if not strikes or directive.fault is not None:
            return directive
        return replace(directive, fault=fault, status=status if fault == "status" else None, at=place)


def directed_error(directive: Directive) -> ApiError | None:
    """The HTTP error that the directive's fault is, if it is one."""
    if directive.fault == "spend_limit":
        details = {"error_code": "enforced_spend_limit_reached"}
        return ApiError(status=429, message=SPEND_LIMIT_MESSAGE, details=dict(details))
    if directive.fault == "user_spend_limit":
        return ApiError(status=400, message=USER_SPEND_LIMIT_MESSAGE)
    if directive.fault != "status":
        return None
    status = directive.status or OVERLOADED_STATUS
    kind = directive.type or error_type(status)
    return ApiError(status=status, type=kind, message=ERROR_MESSAGES.get(kind, "The simulator was asked to fail."))


def directed_headers(directive: Directive) -> dict[str, str]:
    """The retry headers that the directive asks for."""
    found: dict[str, str] = {}
    if directive.retry_after is not None:
        found["retry-after"] = f"{directive.retry_after:g}"
    if directive.retry_after_ms is not None:
        found["retry-after-ms"] = f"{directive.retry_after_ms:g}"
    if directive.should_retry is not None:
        found["x-should-retry"] = "true" if directive.should_retry else "false"
    return found
