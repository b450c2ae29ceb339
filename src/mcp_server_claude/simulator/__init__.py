"""An offline Anthropic Messages API over a loopback socket: for tests, demos and benchmarks, with faults on request.

    async with Simulator(pace=Pace(tokens_per_s=0)) as simulator:
        client = AsyncAnthropic(api_key="any", base_url=simulator.url)

It answers `/v1/messages` (streamed or not), `/v1/messages/count_tokens`, `/v1/models` and `/v1/files`; a prompt may
hold a directive that chooses length, pace, tools and faults (the table is in `directives`). From another process, `GET
/_simulator/requests` lists what was asked and `POST /_simulator/reset` forgets it.
"""

from __future__ import annotations

from mcp_server_claude.simulator.api import Pace
from mcp_server_claude.simulator.model_catalog import Models
from mcp_server_claude.simulator.prompt_directives import FAULTS, BadDirectiveError, Fault, directive
from mcp_server_claude.simulator.request_log import Record
from mcp_server_claude.simulator.simulator import Simulator, serve

__all__ = ["FAULTS", "BadDirectiveError", "Fault", "Models", "Pace", "Record", "Simulator", "directive", "serve"]
