"""Questions to users whether a call may be sent that could cost more than `MCP_CLAUDE_CONFIRM_ABOVE_USD`.

Each question holds a nonce and is forgotten when it is answered, so one approval pays for one call. In 2026-07-28 a
client repeats the call with the answer, and the state that it sends along can be repeated too: a second time it belongs
to a question that is no longer pending, so the user is asked again. Over HTTP the question is an error with a token,
and the call repeated with that token is the approval.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from secrets import token_hex
from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PENDING_QUESTIONS = 1000
QUESTION_TTL_S = 600.0
"""Seconds for which a question can be answered; the SDK takes the state of a repeated call as long (mcp 2.3)."""
APPROVAL_PREFIX = "approval_"


class SpendingApprovals:
    """The questions of this process that were asked and not answered yet: by the digest of their call, and by token."""

    def __init__(self) -> None:
        self._questions: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._digests: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def pending_question(self, digest: str) -> str | None:
        """The question about a call, if it was asked and can still be answered."""
        asked_at, question = self._questions.get(digest, (0.0, ""))
        return question if question and time.monotonic() - asked_at < QUESTION_TTL_S else None

    def add_question(self, digest: str, text: str) -> str:
        """Add a question about a call. Returns the text with its nonce."""
        self._questions.pop(digest, None)
        while len(self._questions) >= MAX_PENDING_QUESTIONS:
            self._questions.popitem(last=False)
        question = f"{text} [{token_hex(4)}]"
        self._questions[digest] = (time.monotonic(), question)
        return question

    def close_question(self, digest: str) -> None:
        """Forget the question about a call: it was answered."""
        self._questions.pop(digest, None)

    def issue_token(self, digest: str) -> str:
        """Issue the token with which a call can be repeated once."""
        while len(self._digests) >= MAX_PENDING_QUESTIONS:
            self._digests.popitem(last=False)
        token = f"{APPROVAL_PREFIX}{token_hex(16)}"
        self._digests[token] = (time.monotonic(), digest)
        return token

    def use_token(self, token: str, digest: str) -> bool:
        """Use a token up. Returns whether it was issued for this call and is still valid."""
        issued_at, issued_for = self._digests.get(token, (0.0, ""))
        if issued_for != digest:
            return False
        del self._digests[token]
        return time.monotonic() - issued_at < QUESTION_TTL_S


def needs_approval(highest_usd: float | None, above_usd: float | None) -> bool:
    """True if the user must be asked: a call could cost more than the limit, or its price is unknown."""
    return above_usd is not None and (highest_usd is None or highest_usd > above_usd)


def highest_cost(estimates: Sequence[float | None], max_usd: float) -> float | None:
    """The most that a call can cost in US dollars, by the estimate of it as it is and its own limit (0 for none)."""
    estimate = estimates[0] if estimates else None
    return (max_usd or None) if estimate is None else min(estimate, max_usd or estimate)


def cost_sentence(highest_usd: float | None) -> str:
    """The sentence that says what a call could cost."""
    if highest_usd is None:
        return "The price of this call is unknown."
    return f"This call may cost up to {number_formatting.format_usd(highest_usd)}."
