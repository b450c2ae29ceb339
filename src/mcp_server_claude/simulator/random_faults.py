"""Faults chosen by chance, and the HTTP errors that a directive asks for."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from mcp_server_claude.simulator.api_errors import MESSAGES, Problem, error_type

if TYPE_CHECKING:
    from mcp_server_claude.simulator.prompt_directives import Directive, Fault

RECOVERABLE: tuple[Fault, ...] = ("status", "error", "drop", "fin", "eof")
STATUSES = (429, 500, 529)
PLACES = 400
OVERLOADED = 529
SPENT = "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."


class Chaos:
    """A fault for one request in `1 / rate`, the same ones for the same seed and order of requests."""

    def __init__(self, rate: float, seed: int = 0, faults: tuple[Fault, ...] = RECOVERABLE) -> None:
        self._rate = rate
        self._faults = faults
        self._chance = random.Random(seed)

    def over(self, chosen: Directive) -> Directive:
        """The directive, with a fault when chance wants one and the prompt has not chosen its own."""
        strikes = self._chance.random() < self._rate
        fault = self._chance.choice(self._faults)
        status, place = self._chance.choice(STATUSES), self._chance.choice(("headers", self._chance.randrange(PLACES)))
        if not strikes or chosen.fault is not None:
            return chosen
        return replace(chosen, fault=fault, status=status if fault == "status" else None, at=place)


def problem(chosen: Directive) -> Problem | None:
    """The HTTP error that the directive's fault is, if it is one."""
    if chosen.fault == "spend_limit":
        details = {"error_code": "enforced_spend_limit_reached"}
        return Problem(status=429, message=SPENT, details=dict(details))
    if chosen.fault != "status":
        return None
    status = chosen.status or OVERLOADED
    kind = chosen.type or error_type(status)
    return Problem(status=status, type=kind, message=MESSAGES.get(kind, "The simulator was asked to fail."))


def headers(chosen: Directive) -> dict[str, str]:
    """The retry headers that the directive asks for."""
    found: dict[str, str] = {}
    if chosen.retry_after is not None:
        found["retry-after"] = f"{chosen.retry_after:g}"
    if chosen.retry_after_ms is not None:
        found["retry-after-ms"] = f"{chosen.retry_after_ms:g}"
    if chosen.should_retry is not None:
        found["x-should-retry"] = "true" if chosen.should_retry else "false"
    return found
