"""What a caller names in `files` becomes content blocks of the Messages API, and nothing else becomes anything.

    names ─▶ references  https URLs, data: URIs, file ids: passed on
          ─▶ globs ─▶ listing  what git does not ignore
          ─▶ fence ─▶ kinds ─▶ blocks   opened below a root, told by its bytes, wrapped

Every byte of a file comes through `fence`. Everything here is synchronous and wants a thread of its own; what is wrong
is told with `Refused`.
"""

from mcp_server_claude.files.attach_files import gather, read
from mcp_server_claude.files.attachment_builder import Gathered
from mcp_server_claude.files.attachment_summary import Shown, shown
from mcp_server_claude.files.content_blocks import estimate
from mcp_server_claude.files.read_glob_grep import find, grep, list_dir, read_file
from mcp_server_claude.files.roots import Rules, roots_for

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
