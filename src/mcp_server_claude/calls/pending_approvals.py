"""The questions about spending that were asked and not answered yet, in this process or in a shared database.

Each question holds a nonce and is forgotten when it is answered, so one approval pays for one call. In 2026-07-28 a
client repeats the call with the answer, and the state that it sends along can be repeated too: a second time it belongs
to a question that is no longer pending, so the user is asked again. Over HTTP the question is an error with a token,
and the call repeated with that token is the approval. Servers that share a database keep both there, since the answer
may reach another one than asked.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from secrets import token_hex
from typing import TYPE_CHECKING, Protocol

from mcp_server_claude.calls.spending_approvals import question_with_nonce
from mcp_server_claude.store import spending_questions, store_errors_as

if TYPE_CHECKING:
    from mcp_server_claude.store import Store

MAX_PENDING_QUESTIONS = 1000
QUESTION_TTL_S = 600.0
"""Seconds for which a question can be answered; the SDK takes the state of a repeated call as long (mcp 2.3)."""
APPROVAL_PREFIX = "approval_"
STORE_FAILURE = "The approval of a cost could not be looked up"


class PendingQuestions(Protocol):
    """Texts by a key, each for `QUESTION_TTL_S`, and removed once."""

    async def put(self, key: str, text: str) -> None:
        """Add a text, in place of an earlier one."""
        ...

    async def find(self, key: str) -> str | None:
        """Return a text, if it is there and not expired."""
        ...

    async def remove(self, key: str, text: str) -> bool:
        """Remove this text, not a later one of its key. Returns True for one of any number of callers."""
        ...


class LocalQuestions:
    """Questions of this process, at most `MAX_PENDING_QUESTIONS`."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, tuple[float, str]] = OrderedDict()

    async def put(self, key: str, text: str) -> None:
        """Add a text, in place of an earlier one."""
        self._texts.pop(key, None)
        while len(self._texts) >= MAX_PENDING_QUESTIONS:
            self._texts.popitem(last=False)
        self._texts[key] = (time.monotonic(), text)

    async def find(self, key: str) -> str | None:
        """Return a text, if it is there and not expired."""
        asked_at, text = self._texts.get(key, (0.0, ""))
        return text if text and time.monotonic() - asked_at < QUESTION_TTL_S else None

    async def remove(self, key: str, text: str) -> bool:
        """Remove this text, not a later one of its key. Returns True for one of any number of callers."""
        if self._texts.get(key, (0.0, ""))[1] != text:
            return False
        del self._texts[key]
        return True


class SharedQuestions:
    """Questions in the database that servers share. Each method raises `ConfigurationError` if it cannot be used."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, key: str, text: str) -> None:
        """Add a text, in place of an earlier one."""
        with store_errors_as(STORE_FAILURE):
            await self._store.write(spending_questions.insert_question, self._store.locks, key, text, QUESTION_TTL_S)

    async def find(self, key: str) -> str | None:
        """Return a text, if it is there and not expired."""
        with store_errors_as(STORE_FAILURE):
            return await self._store.read(spending_questions.find_question, self._store.locks, key, QUESTION_TTL_S)

    async def remove(self, key: str, text: str) -> bool:
        """Remove this text, not a later one of its key. Returns True for one of any number of callers."""
        with store_errors_as(STORE_FAILURE):
            return await self._store.write(spending_questions.delete_question, key, text)


class SpendingApprovals:
    """The questions that were asked and not answered yet: by the digest of their call, and by token.

    All methods raise `ConfigurationError` if the database that servers share cannot be used.
    """

    def __init__(self, store: Store) -> None:
        self._questions: PendingQuestions = SharedQuestions(store) if store.is_shared else LocalQuestions()
        self._digests: PendingQuestions = SharedQuestions(store) if store.is_shared else LocalQuestions()

    async def pending_question(self, digest: str) -> str | None:
        """The question about a call, if it was asked and can still be answered."""
        return await self._questions.find(digest)

    async def add_question(self, digest: str, text: str) -> str:
        """Add a question about a call. Returns the text with its nonce."""
        question = question_with_nonce(text)
        await self._questions.put(digest, question)
        return question

    async def close_question(self, digest: str, question: str) -> bool:
        """Forget the question about a call: it was answered. Returns True for the first answer to it.

        `question` is its text with its nonce. A later question about the same call stays, since nobody has answered it.
        """
        return await self._questions.remove(digest, question)

    async def issue_token(self, digest: str) -> str:
        """Issue the token with which a call can be repeated once."""
        token = f"{APPROVAL_PREFIX}{token_hex(16)}"
        await self._digests.put(token, digest)
        return token

    async def use_token(self, token: str, digest: str) -> bool:
        """Use a token up. Returns whether it was issued for this call and is still valid."""
        if not token.startswith(APPROVAL_PREFIX) or await self._digests.find(token) != digest:
            return False
        return await self._digests.remove(token, digest)
