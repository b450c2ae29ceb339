"""The turn that is under way: what was said in it over as many streams as it takes, and where its code runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.anthropic_api.message_stream import MessageStream
    from mcp_server_claude.call_types import Block, Call, Message
    from mcp_server_claude.errors import CallError

EXPIRED_CONTAINER_KINDS = frozenset({"not_found", "invalid_request", "api_error"})
"""How the API may say that a container is gone (pydantic-ai, issue 7833)."""


class RequestMessages:
    """The conversation as it is sent next.

    `container` is that in which code of this turn runs, or ran in an earlier one; whatever is sent after names it, and
    where code is still running the API refuses what does not.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._user_message = _user_message(call)
        self._feedback: list[Message] = []
        self._turn_messages: list[Message] = []
        self._continuation: list[Message] = []
        self._paused_blocks: list[Block] = []
        self._finished_blocks: list[Block] = []
        self.container_id = call.container_id
        self._container_inherited = bool(call.container_id)

    @property
    def has_open_turn(self) -> bool:
        """Whether a stream of this turn has ended with more to come, so that the next begins where it ended."""
        return bool(self._paused_blocks or self._finished_blocks)

    def to_send(self, continuation: Sequence[Message] = ()) -> list[Message]:
        """What is sent; `going_on` is the text so far and the plea to go on with it, where a stream broke."""
        self._continuation = list(continuation)
        paused: list[Message] = [{"role": "assistant", "content": self._paused_blocks}] if self._paused_blocks else []
        return [*self._call.history, self._user_message, *self._feedback, *self._turn_messages, *continuation, *paused]

    def all_blocks(self, latest: Sequence[Block]) -> tuple[Block, ...]:
        """All that was said, with the blocks of the latest stream."""
        return *self._finished_blocks, *self.open_blocks(latest)

    def open_blocks(self, latest: Sequence[Block]) -> list[Block]:
        """The answer that is being written: what it paused with, and the blocks of the latest stream."""
        return [*self._paused_blocks, *latest]

    def add_feedback(self, answer: str, feedback: str) -> None:
        """The answer was there, and did not do."""
        self._feedback = [
            {"role": "assistant", "content": answer or "(nothing)"},
            {"role": "user", "content": feedback},
        ]

    def add_paused_blocks(self, blocks: Sequence[Block]) -> None:
        """The stream ended with a pause: its blocks go back unchanged, after whatever it went on from."""
        if blocks:
            self._turn_messages += self._continuation
            self._paused_blocks += blocks

    def add_tool_results(self, blocks: Sequence[Block], results: Sequence[object]) -> None:
        """The `answer` ended with calls of tools that are ours, and this is what came of them."""
        self._paused_blocks = []
        self._finished_blocks += blocks
        self._turn_messages += [
            *self._continuation,
            {"role": "assistant", "content": blocks},
            {"role": "user", "content": results},
        ]

    def track_container(self, stream: MessageStream, error: CallError | None) -> CallError | None:
        """Remember where code ran. A container of an earlier turn may have expired, which the API says in more than one
        way, a plain fault of its own among them: then the request is sent again without it.

        Returns:
            The error, as one to retry where the container was its reason.
        """
        if stream.container_id:
            self.container_id, self._container_inherited = stream.container_id, False
        elif (
            error is not None
            and self._container_inherited
            and not stream.has_started
            and error.kind in EXPIRED_CONTAINER_KINDS
        ):
            self.container_id, self._container_inherited = "", False
            self._user_message = _user_message(replace(self._call, container_id=""))
            if error.kind != "api_error":
                return error.with_retry()
        return error


def _user_message(call: Call) -> Message:
    """The call's own turn. Files for code are put into a container only in the turn that is being answered, so that a
    new container is given those of earlier turns again (pydantic-ai, pull request 7864).
    """
    question = call.user_message()
    if call.container_id or "code" not in call.tools:
        return question
    turns = [cast("Sequence[Block]", m["content"]) for m in call.history if isinstance(m["content"], list | tuple)]
    earlier = {str(b["file_id"]): b for turn in turns for b in turn if b.get("type") == "container_upload"}
    mine = {block.get("file_id") for block in call.attachments}
    again = [block for file_id, block in earlier.items() if file_id not in mine]
    content = question["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else cast("list[Block]", content)
    return {"role": "user", "content": [*again, *blocks]} if again else question
