"""The command `mcp-server-claude`: without arguments it serves MCP over stdio, and imports nothing else for that."""

from __future__ import annotations

import os
import sys

from mcp_server_claude.errors import local_resource_error
from mcp_server_claude.exit_codes import EXIT_CONFIGURATION, EXIT_INCOMPLETE, EXIT_INTERRUPTED, error_exit_code
from mcp_server_claude.open_file_limit import low_limit_message, raise_open_file_limit
from mcp_server_claude.standard_streams import (
    drop_unwritable_stderr,
    flush_stdout,
    open_missing_streams,
    restart_in_utf8_mode,
)


def main() -> None:
    """Serve, or hand over to the shell's commands."""
    restart_in_utf8_mode()
    missing_streams = open_missing_streams()
    try:
        try:
            _run(missing_streams)
        finally:
            flush_stdout()
    except BrokenPipeError:
        sys.exit(EXIT_INCOMPLETE)
    except KeyboardInterrupt:  # while a command is imported
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        failure = local_resource_error(error)
        if failure is None:
            raise
        sys.stderr.write(f"{failure}\n")
        sys.exit(error_exit_code(failure))
    finally:
        drop_unwritable_stderr()


def _run(missing_streams: frozenset[int]) -> None:
    if message := low_limit_message(raise_open_file_limit()):
        sys.stderr.write(f"{message}\n")
        sys.exit(EXIT_CONFIGURATION)
    if len(sys.argv) > 1 or "_MCP_SERVER_CLAUDE_COMPLETE" in os.environ:  # a shell asks for completions
        from mcp_server_claude.cli import app

        app(prog_name="mcp-server-claude")
        return
    from mcp_server_claude.server.stdio_command import serve_stdio

    serve_stdio(missing_streams)


if __name__ == "__main__":
    main()
