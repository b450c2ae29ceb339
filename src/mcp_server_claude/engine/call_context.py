"""The collaborators of one running call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.client import ClaudeClient
    from mcp_server_claude.anthropic_api.request_body import CacheTtl
    from mcp_server_claude.call_types import Listener
    from mcp_server_claude.engine.answer_buffer import AnswerBuffer
    from mcp_server_claude.engine.end_turns import EndTurns
    from mcp_server_claude.engine.ledger_writer import LedgerWriter
    from mcp_server_claude.engine.rate_limit_cooldown import RateLimitCooldown
    from mcp_server_claude.engine.retry_policy import RetryPolicy
    from mcp_server_claude.engine.spending_limit import SpendingLimit
    from mcp_server_claude.engine.stream_watchdog import StreamWatchdog
    from mcp_server_claude.engine.usage_accumulator import UsageAccumulator
    from mcp_server_claude.files import FilePolicy


@frozen_dataclass(kw_only=True)
class CallContext:
    """The objects that a request loop works with. They belong to the engine or to the call.

    `read_interval_s` is the interval in which text is read, see `anthropic_api.read_coalescing`.
    """

    claude: ClaudeClient
    ledger: LedgerWriter
    cooldown: RateLimitCooldown
    retry_policy: RetryPolicy
    spending_limit: SpendingLimit
    answer_buffer: AnswerBuffer
    usage: UsageAccumulator
    watchdog: StreamWatchdog
    end_turns: EndTurns
    cache: CacheTtl
    file_policy: FilePolicy
    listener: Listener
    read_interval_s: float
