"""The turn that is under way: what was said in it over as many streams as it takes, and where its code runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.anthropic_api import MessageStream
    from mcp_server_claude.call_types import Block, Call, Message
    from mcp_server_claude.errors import Failure

EXPIRED = frozenset({"not_found", "invalid_request", "api_error"})
"""How the API may say that a container is gone (pydantic-ai, issue 7833)."""


class Turn:
    """The conversation as it is sent next.

    `container` is that in which code of this turn runs, or ran in an earlier one; whatever is sent after names it, and
    where code is still running the API refuses what does not.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._question = _question(call)
        self._more: list[Message] = []
        self._said: list[Message] = []
        self._going_on: list[Message] = []
        self._paused: list[Block] = []
        self._seen: list[Block] = []
        self.container = call.container
        self._borrowed = bool(call.container)

    @property
    def goes_on(self) -> bool:
        """Whether a stream of this turn has ended with more to come, so that the next begins where it ended."""
        return bool(self._paused or self._seen)

    def messages(self, going_on: Sequence[Message] = ()) -> list[Message]:
        """What is sent; `going_on` is the text so far and the plea to go on with it, where a stream broke."""
        self._going_on = list(going_on)
        paused: list[Message] = [{"role": "assistant", "content": self._paused}] if self._paused else []
        return [*self._call.history, self._question, *self._more, *self._said, *going_on, *paused]

    def blocks(self, latest: Sequence[Block]) -> tuple[Block, ...]:
        """All that was said, with the blocks of the latest stream."""
        return *self._seen, *self.answer(latest)

    def answer(self, latest: Sequence[Block]) -> list[Block]:
        """The answer that is being written: what it paused with, and the blocks of the latest stream."""
        return [*self._paused, *latest]

    def again(self, answer: str, plea: str) -> None:
        """The answer was there, and did not do."""
        self._more = [{"role": "assistant", "content": answer or "(nothing)"}, {"role": "user", "content": plea}]

    def pause(self, blocks: Sequence[Block]) -> None:
        """The stream ended with a pause: its blocks go back unchanged, after whatever it went on from."""
        if blocks:
            self._said += self._going_on
            self._paused += blocks

    def look(self, answer: Sequence[Block], found: Sequence[object]) -> None:
        """The `answer` ended with calls of tools that are ours, and this is what came of them."""
        self._paused = []
        self._seen += answer
        self._said += [*self._going_on, {"role": "assistant", "content": answer}, {"role": "user", "content": found}]

    def contain(self, answer: MessageStream, failure: Failure | None) -> None:
        """Remember where code ran. A container of an earlier turn may have expired, which the API says in more than one
        way, a plain fault of its own among them: then it goes on without.
        """
        if answer.container_id:
            self.container, self._borrowed = answer.container_id, False
        elif failure is not None and self._borrowed and not answer.has_started and failure.kind in EXPIRED:
            self.container, self._borrowed = "", False
            self._question = _question(replace(self._call, container=""))
            if failure.kind != "api_error":
                failure.should_retry, failure.retry_after_s = True, 0.0


def _question(call: Call) -> Message:
    """The call's own turn. Files for code are put into a container only in the turn that is being answered, so that a
    new container is given those of earlier turns again (pydantic-ai, pull request 7864).
    """
    question = call.question()
    if call.container or "code" not in call.tools:
        return question
    turns = [cast("Sequence[Block]", m["content"]) for m in call.history if isinstance(m["content"], list | tuple)]
    earlier = {str(b["file_id"]): b for turn in turns for b in turn if b.get("type") == "container_upload"}
    mine = {block.get("file_id") for block in call.attached}
    again = [block for file_id, block in earlier.items() if file_id not in mine]
    content = question["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else cast("list[Block]", content)
    return {"role": "user", "content": [*again, *blocks]} if again else question
