"""The command that serves MCP over stdio. Imports nothing heavy before the garbage collector is off."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

from mcp_server_claude.garbage_collection import freeze_imports
from mcp_server_claude.heap_memory import map_large_blocks, use_one_arena
from mcp_server_claude.hidden_modules import hide_modules
from mcp_server_claude.standard_streams import drop_unwritable_stderr

TERMINAL_NOTE = "This serves MCP over stdio and waits for an MCP client. To see its commands: mcp-server-claude --help"

HTTP_MODULES = ("uvicorn", "python_multipart", "multipart")
"""The MCP SDK imports its HTTP transport also where it serves stdio. There sse-starlette imports uvicorn, to change how
it ends, and Starlette a parser of forms. Both do without where these are not installed (sse-starlette 3, Starlette 1):
3.3 MB and 40 ms for nothing."""
NO_CLIENT_NOTE = "There is no MCP client: standard input or output is closed."


def serve_stdio(missing_streams: frozenset[int] = frozenset()) -> NoReturn:
    """Serve MCP over stdio, and end the process. On a terminal a line on stderr says what it waits for.

    `missing_streams` are the standard descriptors that were closed at the start: without 0 and 1 there is no client.
    """
    if missing_streams & {0, 1}:
        print(NO_CLIENT_NOTE, file=sys.stderr, flush=True)  # noqa: T201 - before logging is set up
        sys.exit(0)
    if sys.stdin.isatty():
        print(TERMINAL_NOTE, file=sys.stderr, flush=True)  # noqa: T201 - before logging is set up
    use_one_arena()
    map_large_blocks()
    # The store's threads answer while a stream is parsed; by default each waits 5 ms for its turn.
    sys.setswitchinterval(0.001)
    gc.disable()  # imports make 130,000 objects and no garbage: a tenth of the time to the handshake
    with hide_modules(*HTTP_MODULES):
        from mcp_server_claude.server import stdio_transport
        from mcp_server_claude.server.mcp_server import build_mcp_server
        from mcp_server_claude.services.lazy_services import Services
        from mcp_server_claude.settings import Settings

    server = build_mcp_server(Settings.load(), Services.lifespan)
    freeze_imports()  # first: a collection of all of them would take 50 ms
    gc.enable()
    code = stdio_transport.run_stdio_server(server)
    drop_unwritable_stderr()
    os._exit(code)  # everything is unwound; taking down the interpreter would only cost another 100 ms
