"""Approval of the cost of a question over HTTP, above `MCP_CLAUDE_CONFIRM_ABOVE_USD`.

A question that could cost more is refused with a token. The same question with that token has been approved by its
user, once: it is the answer of a person who has read the price.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread

from mcp_server_claude.calls import spending_approvals
from mcp_server_claude.errors import RequestError
from mcp_server_claude.jobs.call_spec import approval_digest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcp_server_claude.call_types import Call
    from mcp_server_claude.engine.cost_estimate import CostEstimate
    from mcp_server_claude.jobs.map_estimates import MapEstimate
    from mcp_server_claude.services.service_access import ServiceAccess

HOW_TO_APPROVE = (
    "Send it again with `approval` to approve that, once; a lower `max_usd` or `max_tokens` needs no approval."
)


class CostApprovalError(RequestError):
    """The user has not approved the cost of a question yet."""

    def __init__(self, highest_usd: float | None, token: str) -> None:
        """`highest_usd` is the most that it can cost, None if that is unknown; `token` approves it."""
        super().__init__(f"{spending_approvals.cost_sentence(highest_usd)} {HOW_TO_APPROVE}", kind="confirmation")
        self.highest_usd = highest_usd
        self.token = token

    def as_json(self) -> dict[str, object]:
        """The fields of the error, with the token and the price that it approves."""
        return super().as_json() | {"approval": self.token, "highest_usd": self.highest_usd}


async def check_cost_approval(services: ServiceAccess, call: Call, token: str) -> None:
    """Check that a question costs little enough, or that its token approves its cost. The token is then used up.

    Raises:
        CostApprovalError: Its cost must be approved, or it has changed since that was done.
        CallError: The cost cannot be estimated; see `ConversationThreads.estimate_call_cost`.
    """
    estimate = partial(services.threads.estimate_call_cost, call)
    await check_approval_of(services, partial(approval_digest, call), estimate, call.max_usd, token)


async def check_approval_of(
    services: ServiceAccess,
    digest_of: Callable[[], str],
    estimate: Callable[[], Awaitable[Sequence[CostEstimate | MapEstimate]]],
    max_usd: float,
    token: str,
) -> None:
    """Check that the cost of a request needs no approval or has one; see `check_cost_approval`.

    `digest_of` returns the digest of the request. `estimate` returns its cost in the order of the estimate: as it is
    first, then in other ways.

    Raises:
        CostApprovalError: Its cost must be approved, or it has changed since that was done.
        CallError: The cost cannot be estimated.
    """
    above_usd = services.settings.confirm_above_usd
    if above_usd is None:
        return
    digest = await anyio.to_thread.run_sync(digest_of)  # a call may hold megabytes of files
    if token and await services.approvals.use_token(token, digest):
        return
    highest_usd = spending_approvals.highest_cost([each.max_usd for each in await estimate()], max_usd)
    if spending_approvals.needs_approval(highest_usd, above_usd):
        raise CostApprovalError(highest_usd, await services.approvals.issue_token(digest))
