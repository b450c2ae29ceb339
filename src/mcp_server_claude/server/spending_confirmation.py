"""Confirmation of calls that could cost more than `MCP_CLAUDE_CONFIRM_ABOVE_USD`, by elicitation in both protocol eras.

The resolvers below run before a tool. They return a question for the user, or an approval where none is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context, Elicit
from pydantic import BaseModel, Field

from mcp_server_claude.calls import spending_approvals
from mcp_server_claude.errors import RequestError
from mcp_server_claude.jobs.call_spec import approval_digest
from mcp_server_claude.server.tool_dependencies import current_request
from mcp_server_claude.services.service_access import ServiceAccess

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Call

CLIENT_ASKS_IN_RESULT_VERSION = "2026-07-28"
"""From this protocol version on a question is a result, so that no channel to the client is needed."""


class SpendingApproval(BaseModel):
    """The answer of the user."""

    proceed: bool = Field(title="Send it?", description="Whether the call may be sent.")


APPROVED = SpendingApproval(proceed=True)
"""The approval of a call about which nobody was asked."""


async def ask_user(
    services: ServiceAccess, ctx: Context[ServiceAccess], digest: str, highest_usd: float | None
) -> Elicit[SpendingApproval] | SpendingApproval:
    """The question whether a call may cost so much, or the approval where the limit is not exceeded.

    Raises:
        RequestError: The limit is exceeded, and the client cannot ask its user.
        ConfigurationError: The database that servers share cannot be used.
    """
    above_usd = services.settings.confirm_above_usd
    if not spending_approvals.needs_approval(highest_usd, above_usd):
        return APPROVED
    if not _can_ask(ctx):
        raise RequestError(
            f"{spending_approvals.limit_sentences(highest_usd, above_usd or 0.0)} the user must approve it, and this "
            "client cannot ask. A lower max_usd or max_tokens needs no approval.",
            kind="confirmation",
        )
    text = f"{spending_approvals.cost_sentence(highest_usd)} Send it?"
    if not _asks_in_result(ctx.protocol_version):
        return Elicit(spending_approvals.question_with_nonce(text), SpendingApproval)
    return Elicit(await services.approvals.add_question(digest, text), SpendingApproval)


async def pending_question(
    services: ServiceAccess, ctx: Context[ServiceAccess], digest: str
) -> Elicit[SpendingApproval] | None:
    """The question that the user was asked when this call was made before; None if there is none.

    Raises:
        ConfigurationError: The database that servers share cannot be used.
    """
    if not _asks_in_result(ctx.protocol_version):
        return None
    question = await services.approvals.pending_question(digest)
    if question is None:
        return None
    current_request().questions[digest] = question
    return Elicit(question, SpendingApproval)


async def check_approval(
    services: ServiceAccess, outcome: ElicitationResult[SpendingApproval], call: Call, *further: object
) -> None:
    """Use the answer of the user up, for this one call.

    Raises:
        RequestError: The user declined, or closed the question, or the answer was used by another call.
        ConfigurationError: The database that servers share cannot be used.
    """
    if isinstance(outcome, AcceptedElicitation) and outcome.data is APPROVED:
        return
    is_first = True
    if _asks_in_result(current_request().protocol_version):
        digest = approval_digest(call, *further)
        is_first = await services.approvals.close_question(digest, current_request().questions.get(digest, ""))
    if not (isinstance(outcome, AcceptedElicitation) and outcome.data.proceed):
        raise RequestError("The user did not approve the cost of this call. Nothing was sent.", kind="confirmation")
    if not is_first:
        raise RequestError(
            "This approval was already used for another call. Nothing was sent; repeat the call to be asked again.",
            kind="confirmation",
        )


def _can_ask(ctx: Context[Any]) -> bool:
    capabilities = ctx.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    if elicitation is None or (elicitation.form is None and elicitation.url is not None):
        return False
    return _asks_in_result(ctx.protocol_version) or ctx.session.can_send_request


def _asks_in_result(protocol_version: str | None) -> bool:
    """True if the client repeats a call with the answer. Before, the answer comes back to the call that asked."""
    return (protocol_version or "") >= CLIENT_ASKS_IN_RESULT_VERSION
