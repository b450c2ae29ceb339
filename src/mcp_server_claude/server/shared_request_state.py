"""The key that protects the state which a client repeats (`requestState`), shared by servers on one database.

In 2026-07-28 a tool that asks the user ends with a question and a sealed state, and the client repeats the call with
both. Behind a proxy another server may get it. The SDK makes a key of its own for each process; with
`MCP_CLAUDE_DATABASE_URL` the key is in the database.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mcp.server.request_state import AESGCMRequestStateCodec, RequestStateSecurity

if TYPE_CHECKING:
    from mcp.server.context import CallNext, ServerRequestContext

    from mcp_server_claude.services.service_access import ServiceAccess

KEY_NAME = "request_state"
LOCAL_KEY_BYTES = 32
SEALING_METHOD = "tools/call"
"""The method whose results can carry a state; no prompt or resource of this server asks anything."""


class SharedRequestState:
    """Seals states with the key of the database. Until that could be read, with one that no other server has."""

    def __init__(self) -> None:
        self._codec = AESGCMRequestStateCodec([os.urandom(LOCAL_KEY_BYTES)])
        self._is_shared = False

    @property
    def security(self) -> RequestStateSecurity:
        """The policy for the SDK's server."""
        return RequestStateSecurity(codec=self)

    def seal(self, payload: bytes) -> str:
        """Encrypt a state."""
        return self._codec.seal(payload)

    def unseal(self, token: str) -> bytes:
        """Decrypt a state.

        Raises:
            InvalidRequestState: No server on this database has sealed it.
        """
        return self._codec.unseal(token)

    async def load_key(self, ctx: ServerRequestContext[ServiceAccess, Any], call_next: CallNext) -> Any:
        """Read the key before the first call of a tool. Middleware that runs outside of the SDK's own."""
        if not self._is_shared and ctx.method == SEALING_METHOD:
            services = await ctx.lifespan_context.open()
            if key := await services.database_key(KEY_NAME):  # else the next call tries again
                self._codec, self._is_shared = AESGCMRequestStateCodec([key]), True
        return await call_next(ctx)
