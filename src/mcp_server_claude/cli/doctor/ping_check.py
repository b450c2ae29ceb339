"""Check of the whole path of a call: one tiny request that is paid, with its cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import number_formatting
from mcp_server_claude.calls.ask_request import CallOrigin, build_call
from mcp_server_claude.cli.doctor.finding import HINTS_BY_KIND, NETWORK_HINT, Finding
from mcp_server_claude.errors import CallError
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.users.user import LOCAL

if TYPE_CHECKING:
    from mcp_server_claude.call_types import CallEvent, Reply
    from mcp_server_claude.settings import Settings

PING_PROMPT = "Reply with the word pong."
MAX_PING_TOKENS = 100
PING_TIMEOUT_S = 60.0


def _ignore_event(_: CallEvent) -> None:
    """Take in an event of the answer, of which only the end matters."""


async def check_ping(settings: Settings) -> Finding:
    """Check that a call is admitted, answered and entered in the ledger. It costs a fraction of a cent."""
    result: Reply | CallError | None = None
    async with Services.lifespan(settings, shares_jobs=False) as services:
        await services.open()
        try:
            call = await build_call(
                CallOrigin(tool="doctor", source="shell", client="shell", user=LOCAL),
                prompt=PING_PROMPT,
                max_tokens=MAX_PING_TOKENS,
            )
            with anyio.move_on_after(PING_TIMEOUT_S):
                result = await services.calls.run_call(call, _ignore_event)
        except CallError as error:  # raised here, it would leave the task group as an exception group
            result = error
    if result is None:
        limit = number_formatting.format_seconds(PING_TIMEOUT_S)
        return Finding(name="ping", ok=False, text=f"There was no answer within {limit}.", hint=NETWORK_HINT)
    if isinstance(result, CallError):
        return Finding(name="ping", ok=False, text=str(result), hint=HINTS_BY_KIND.get(result.kind, NETWORK_HINT))
    usage = result.usage
    cost = "an unknown price" if usage.cost_usd is None else number_formatting.format_usd(usage.cost_usd)
    text = (
        f"{usage.model} answered in {number_formatting.format_seconds(usage.duration_s)} for {cost}: "
        f"{number_formatting.format_tokens(usage.input_tokens + usage.cache_creation_input_tokens)} tokens in, "
        f"{number_formatting.format_tokens(usage.output_tokens)} out"
    )
    return Finding(name="ping", ok=True, text=text)
