"""The requests that the simulator has received."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp_server_claude.simulator import LoggedRequest, Simulator


def message_requests(simulator: Simulator) -> list[LoggedRequest]:
    """Return the requests for messages, oldest first; not those for models, files or token counts."""
    return [request for request in simulator.requests if request.path == "/v1/messages"]
