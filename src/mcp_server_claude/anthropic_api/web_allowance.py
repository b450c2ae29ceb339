"""The bounds on what web tools may bring into one request, so that its cost can be reserved beforehand.

After each result the model runs again and reads its whole context again, which is billed: `usage.input_tokens` is the
sum of all runs (`anthropic.types.beta.BetaUsage.iterations`, SDK 2.14). A loop has ten runs at most, then the turn is
paused (https://platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools, as documented by November 2026).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_WEB_SEARCHES = 8
"""Web searches that one request may make; each costs a cent."""
MAX_WEB_FETCH_TOKENS = 25_000
"""Tokens of one page or PDF that is fetched, about 85,000 characters; the rest is cut off (`max_content_tokens`,
https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-fetch-tool, as documented by November 2026)."""
WEB_SEARCH_RESULT_TOKENS = 4_000
"""Tokens that the results of one search are taken to bring into the context. The API has no limit for them."""
MAX_LOOP_ITERATIONS = 10
"""Further runs of the model in one request, after results of server tools."""
WEB_TOOL_NAMES = frozenset({"web_search", "web_fetch"})


@frozen_dataclass()
class WebAllowance:
    """The most that web tools may do in one request: `uses` searches, and as many pages of `page_tokens` each."""

    uses: int = MAX_WEB_SEARCHES
    page_tokens: int = MAX_WEB_FETCH_TOKENS

    def max_billed_tokens(self, input_tokens: int) -> int:
        """Input tokens that all further runs read together, at most: each the prompt and all that the tools bring in.

        The runs are as many where there are few uses: one that fails (`max_uses_exceeded`) lets the model run again.
        """
        results = self.uses * (self.page_tokens + WEB_SEARCH_RESULT_TOKENS)
        return MAX_LOOP_ITERATIONS * (input_tokens + results)

    def limit_tool(self, definition: Mapping[str, object]) -> dict[str, object]:
        """A tool definition within this allowance; tools that are not of the web stay as they are."""
        limited = dict(definition)
        if limited.get("name") in WEB_TOOL_NAMES and "max_uses" in limited:
            limited["max_uses"] = min(self.uses, cast("int", limited["max_uses"]))
        if "max_content_tokens" in limited:
            limited["max_content_tokens"] = min(self.page_tokens, cast("int", limited["max_content_tokens"]))
        return limited


FULL_WEB_ALLOWANCE = WebAllowance()
WEB_ALLOWANCES = (
    FULL_WEB_ALLOWANCE,
    WebAllowance(4, 25_000),
    WebAllowance(4, 10_000),
    WebAllowance(2, 10_000),
    WebAllowance(2, 5_000),
    WebAllowance(1, 5_000),
    WebAllowance(1, 2_000),
)
"""The allowances among which a spending limit chooses, the largest first. They are few, so that requests of one thread
begin alike: thinking and the prompt cache are bound to the tools."""


def offers_web_tools(definitions: Iterable[Mapping[str, object]], *, is_switched_off: bool = False) -> bool:
    """True if a request with these tools may use the web."""
    return not is_switched_off and any(tool.get("name") in WEB_TOOL_NAMES for tool in definitions)
