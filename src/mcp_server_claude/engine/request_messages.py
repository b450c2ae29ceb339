"""The messages of the current turn, over as many streams as it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.anthropic_api.message_stream import MessageStream
    from mcp_server_claude.call_types import Block, Call, Message, SentTurn
    from mcp_server_claude.engine.thread_history import ThreadView
    from mcp_server_claude.engine.thread_repair import ThreadRepair
    from mcp_server_claude.errors import CallError

EXPIRED_CONTAINER_KINDS = frozenset({"not_found", "invalid_request", "api_error"})
"""The kinds of error for a container that is gone (pydantic-ai, issue 7833)."""


class RequestMessages:
    """The conversation as the next request sends it.

    `container_id` is the container in which code of this turn runs, or ran in an earlier turn. Every later request
    names it: while code is running, the API rejects a request that does not.
    """

    def __init__(self, call: Call, view: ThreadView) -> None:
        self._call = call
        self.view = view  # replaced where the API refuses the thinking in it
        self._user_message = _user_message(call)
        self._turn_messages: list[Message] = []
        self._continuation: list[Message] = []
        self._paused_blocks: list[Block] = []
        self._finished_blocks: list[Block] = []
        self.container_id = call.container_id
        self._container_inherited = bool(call.container_id)

    @property
    def has_open_turn(self) -> bool:
        """True if a stream of this turn ended with more to come, so that the next one begins where it ended."""
        return bool(self._paused_blocks or self._finished_blocks)

    def to_send(self, continuation: Sequence[Message] = ()) -> list[Message]:
        """The messages of the next request; `continuation` is the text so far and the prompt to continue it."""
        self._continuation = list(continuation)
        paused: list[Message] = [{"role": "assistant", "content": self._paused_blocks}] if self._paused_blocks else []
        question = (self._user_message, *self.view.rules)
        return [*self.view.history, *question, *self._turn_messages, *continuation, *paused]

    def sent_turn(self, repair: ThreadRepair) -> SentTurn:
        """The question as it was sent, and what else its thread stores."""
        return self.view.sent_turn(self._user_message, repair)

    def all_blocks(self, latest: Sequence[Block]) -> tuple[Block, ...]:
        """All content blocks of the answer, with those of the latest stream."""
        return *self._finished_blocks, *self.open_blocks(latest)

    def open_blocks(self, latest: Sequence[Block]) -> list[Block]:
        """The content blocks of the assistant message in progress, with those of the latest stream."""
        return [*self._paused_blocks, *latest]

    def add_feedback(self, answer: str, feedback: str) -> None:
        """Add an answer that has to be corrected, and the message that says so. It closes the turn."""
        self._paused_blocks, self._finished_blocks = [], []
        self._turn_messages += [
            {"role": "assistant", "content": answer or "(nothing)"},
            {"role": "user", "content": feedback},
        ]

    def add_paused_blocks(self, blocks: Sequence[Block]) -> None:
        """Add the blocks of a paused stream unchanged, after the messages that it continued."""
        if blocks:
            self._turn_messages += self._continuation
            self._paused_blocks += blocks

    def add_tool_results(self, blocks: Sequence[Block], results: Sequence[object]) -> None:
        """Add an assistant message that ended with tool uses, and the results of these."""
        self._paused_blocks = []
        self._finished_blocks += blocks
        self._turn_messages += [
            *self._continuation,
            {"role": "assistant", "content": blocks},
            {"role": "user", "content": results},
        ]

    def track_container(self, stream: MessageStream, error: CallError | None) -> CallError | None:
        """Remember the container in which code ran, or forget one of an earlier turn that has expired.

        The API reports that in more than one way, among them an internal error of its own.

        Returns:
            The error, as one to retry if the container was its reason.
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
    """The user message of the call.

    The API puts files into a container only in the turn that is being answered, so that a new container is given the
    files of earlier turns again (pydantic-ai, pull request 7864).
    """
    question = call.user_message()
    if call.container_id or "code" not in call.tools:
        return question
    blocks = [block for past in call.history for block in past.content]
    earlier = {str(block["file_id"]): block for block in blocks if block.get("type") == "container_upload"}
    mine = {block.get("file_id") for block in call.attachments}
    again = [block for file_id, block in earlier.items() if file_id not in mine]
    if not again:
        return question
    return {"role": "user", "content": [*again, *call.attachments, {"type": "text", "text": call.prompt}]}
