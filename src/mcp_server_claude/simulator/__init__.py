"""An offline Anthropic Messages API over a loopback socket: for tests, demos and benchmarks, with faults on request.

    async with Simulator(pace=Pace(tokens_per_s=0)) as simulator:
        client = AsyncAnthropic(api_key="any", base_url=simulator.url)

It answers `/v1/messages` (streamed or not), `/v1/messages/count_tokens`, `/v1/messages/batches`, `/v1/models` and
`/v1/files`; a prompt may hold a directive that chooses length, pace, tools and faults (the table is in
`prompt_directives`). From another process, `GET /_simulator/requests` lists what was asked, `GET
/_simulator/batch_items` the processed items of batches, `POST /_simulator/process_batches` processes the others and
`POST /_simulator/reset` forgets what was asked.
"""

from __future__ import annotations

from mcp_server_claude.simulator.api import Pace
from mcp_server_claude.simulator.model_catalog import ModelList
from mcp_server_claude.simulator.prompt_directives import FAULT_NAMES, FaultName, InvalidDirectiveError, directive
from mcp_server_claude.simulator.rate_limits import RateLimits
from mcp_server_claude.simulator.request_log import LoggedRequest
from mcp_server_claude.simulator.simulator import Simulator, run_until_signal

__all__ = [
    "FAULT_NAMES",
    "FaultName",
    "InvalidDirectiveError",
    "LoggedRequest",
    "ModelList",
    "Pace",
    "RateLimits",
    "Simulator",
    "directive",
    "run_until_signal",
]
