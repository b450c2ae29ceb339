"""What a caller names in `files` becomes content blocks of the Messages API, and nothing else becomes anything.

    names ─▶ references  https URLs, data: URIs, file ids: passed on
          ─▶ globs ─▶ listing  what git does not ignore
          ─▶ fence ─▶ kinds ─▶ blocks   opened below a root, told by its bytes, wrapped

Every byte of a file comes through `fence`. Everything here is synchronous and wants a thread of its own; what is wrong
is told with `Refused`.
"""

from mcp_server_claude.attachments.blocks import estimate
from mcp_server_claude.attachments.browse import find, grep, list_dir, read_file
from mcp_server_claude.attachments.gather import gather, read
from mcp_server_claude.attachments.rules import Rules, roots_for
from mcp_server_claude.attachments.shown import Shown, shown
from mcp_server_claude.attachments.tray import Gathered

__all__ = [
    "Gathered",
    "Rules",
    "Shown",
    "estimate",
    "find",
    "gather",
    "grep",
    "list_dir",
    "read",
    "read_file",
    "roots_for",
    "shown",
]
