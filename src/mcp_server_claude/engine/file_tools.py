"""The tools with which Claude explores the project by itself: list, glob, grep and read, below the allowed roots.

`read`, `glob` and `grep` have the names and parameters of Anthropic's own toolset (`agent_toolset_20260401`; the SDK's
`beta_read_tool` and its siblings, 2.11), which models know. The SDK's functions are not used: they resolve a path,
compare it, and open it later by its name, so that a link which is swapped in between leads out; they match a model's
regular expression in this process, on the event loop; and they know nothing of secrets and of git's ignore rules. The
functions behind `files` are used instead, so both read under the same policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import anyio.to_thread

from mcp_server_claude import files
from mcp_server_claude.call_types import ToolUse
from mcp_server_claude.errors import CallError, RequestError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.call_types import Block, Listener
    from mcp_server_claude.files import FilePolicy

MAX_TOOL_USES = 32
"""Tool uses of one turn that run; those beyond get an error."""
TOOL_ROUND_TIMEOUT_S = 20.0
"""Time for all tool uses of one turn together."""
MAX_SHOWN_FILES = 20
"""PDFs and images that one call may look at: of more images than that none may be large, and a request has 32 MB."""


class FileTools:
    """Runs the tool uses of one call; not shared between calls."""

    def __init__(self, file_policy: FilePolicy, model: ClaudeModel, *, permitted: bool = True) -> None:
        """`permitted` is False where the thread has these tools and this call did not ask for them."""
        self._permitted = permitted
        self._file_policy = file_policy
        self._model = model
        self._shown_count = 0

    async def run_tool_uses(self, blocks: Sequence[Block], listener: Listener) -> list[dict[str, object]]:
        """The results of the tool uses among `blocks`, as the content of the next user message.

        All of them together end after `TOOL_ROUND_TIMEOUT_S`, and at once when the call is cancelled.
        """
        tool_uses = [block for block in blocks if block.get("type") == "tool_use"]
        limit = files.RunLimit(TOOL_ROUND_TIMEOUT_S)
        try:
            return [await self._tool_result(block, n, limit, listener) for n, block in enumerate(tool_uses)]
        finally:
            limit.cancel()

    async def _tool_result(self, block: Block, n: int, limit: files.RunLimit, listener: Listener) -> dict[str, object]:
        name, tool_input = str(block.get("name") or ""), _ToolInput(block.get("input"))
        result: dict[str, object] = {"type": "tool_result", "tool_use_id": block.get("id")}
        if not self._permitted:
            message = "These tools are not available for this question. Answer without them."
            return result | {"content": message, "is_error": True}
        if n >= MAX_TOOL_USES:
            return result | {"content": f"At most {MAX_TOOL_USES} tools run in one turn.", "is_error": True}
        if not limit.remaining_s():
            message = f"The tools of this turn have used up their {limit.seconds:.0f} s; ask for less at once."
            return result | {"content": message, "is_error": True}
        subject = tool_input.text_value("file_path") or tool_input.text_value("pattern")
        listener(ToolUse(name, subject or tool_input.text_value("path")))
        try:
            content = await anyio.to_thread.run_sync(self._run_tool, name, tool_input, limit, abandon_on_cancel=True)
        except CallError as error:
            return result | {"content": str(error), "is_error": True}
        return result | {"content": content}

    def _run_tool(self, name: str, tool_input: _ToolInput, limit: files.RunLimit) -> str | list[Block]:
        pattern, path = tool_input.text_value("pattern"), tool_input.text_value("path")
        match name:
            case "list":
                return files.list_directory(path, self._file_policy)
            case "glob":
                return files.glob_files(pattern, path, self._file_policy, limit)
            case "grep":
                return files.grep_files(pattern, path, self._file_policy, limit=limit)
            case "read":
                return self._read_file(tool_input)
            case _:
                raise RequestError("There is no such tool.")

    def _read_file(self, tool_input: _ToolInput) -> str | list[Block]:
        first, last = tool_input.line_range("view_range")
        seen = files.read_file(tool_input.text_value("file_path"), self._file_policy, first, last, model=self._model)
        if isinstance(seen, str):
            return seen
        if self._shown_count >= MAX_SHOWN_FILES:
            raise RequestError(f"{MAX_SHOWN_FILES} PDFs and images have been shown already; no more are allowed.")
        self._shown_count += 1
        return [*seen]


class _ToolInput:
    """The input of a tool use; values of a wrong type count as missing."""

    def __init__(self, value: object) -> None:
        self._values = cast("dict[str, object]", value) if isinstance(value, dict) else {}

    def text_value(self, key: str) -> str:
        value = self._values.get(key)
        return replace_lone_surrogates(value) if isinstance(value, str) else ""

    def line_range(self, key: str) -> tuple[int, int]:
        """A first and a last line; the last 0 for the end."""
        match self._values.get(key):
            case [int(first), int(last)]:
                return first, last
            case [int(first)]:
                return first, 0
            case _:
                return 1, 0
