"""The command `mcp-server-claude`: without arguments it serves MCP over stdio, and imports nothing else for that."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn


def main() -> None:
    """Serve, or hand over to the shell's commands."""
    if len(sys.argv) > 1:
        from mcp_server_claude.cli import app

        app()
        return
    serve_stdio()


def serve_stdio() -> NoReturn:
    """Serve MCP over stdio, and end the process."""
    sys.setswitchinterval(
        0.001
    )  # the store's threads answer while a stream is parsed; the default waits 5 ms each time
    gc.disable()  # imports make half a million objects and no garbage: a tenth of the time to the handshake
    from mcp_server_claude.server import stdio_transport
    from mcp_server_claude.server.mcp_server import build_mcp_server
    from mcp_server_claude.settings import Settings

    server = build_mcp_server(Settings.load())
    gc.enable()
    gc.freeze()
    code = stdio_transport.run_stdio_server(server)
    sys.stderr.flush()
    os._exit(code)  # everything is unwound; taking down the interpreter would only cost another 100 ms


if __name__ == "__main__":
    main()
