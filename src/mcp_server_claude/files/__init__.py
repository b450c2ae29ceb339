"""What a caller names in `files` becomes content blocks of the Messages API, and nothing else becomes anything.

    names ─▶ references  https URLs, data: URIs, file ids: passed on
          ─▶ globs ─▶ listing  what git does not ignore
          ─▶ fence ─▶ kinds ─▶ blocks   opened below a root, told by its bytes, wrapped

Every byte of a file comes through `fence`. Everything here is synchronous and wants a thread of its own; what is wrong
is told with `RequestError`.
"""

from mcp_server_claude.files.attach_files import attachment_blocks, build_attachments
from mcp_server_claude.files.attachment_builder import Attachments
from mcp_server_claude.files.attachment_summary import FileSummary, summarize_files
from mcp_server_claude.files.content_blocks import estimate_block_tokens
from mcp_server_claude.files.read_glob_grep import glob_files, grep_files, list_directory, read_file
from mcp_server_claude.files.roots import FilePolicy, roots_for

__all__ = [
    "Attachments",
    "FilePolicy",
    "FileSummary",
    "attachment_blocks",
    "build_attachments",
    "estimate_block_tokens",
    "glob_files",
    "grep_files",
    "list_directory",
    "read_file",
    "roots_for",
    "summarize_files",
]
