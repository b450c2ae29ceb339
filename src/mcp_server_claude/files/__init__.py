"""Reads local files for a call and makes content blocks of the Messages API of them. Unsupported entries are errors.

    entry of `files` ─▶ url_references   https URLs, data: URIs, file ids: passed on
                     ─▶ path_spellings ─▶ glob_patterns ─▶ gitignore_walk   the files that git does not ignore
                     ─▶ resolve_path ─▶ sandbox        opened below a root
                     ─▶ content_types ─▶ content_blocks   detected by its bytes, made a block

All file content is read through `sandbox`. Everything here is synchronous: run it on a thread. Errors are
`RequestError`.
"""

from mcp_server_claude.files.attach_files import build_attachments
from mcp_server_claude.files.attachment_builder import Attachments
from mcp_server_claude.files.attachment_summary import FileSummary, summarize_files
from mcp_server_claude.files.helper_processes import RunLimit
from mcp_server_claude.files.read_glob_grep import glob_files, grep_files, list_directory, read_file
from mcp_server_claude.files.request_limits import RequestLimits, check_request_limits, is_quickly_checked
from mcp_server_claude.files.roots import FilePolicy, roots_for
from mcp_server_claude.files.url_references import named_file_ids

__all__ = [
    "Attachments",
    "FilePolicy",
    "FileSummary",
    "RequestLimits",
    "RunLimit",
    "build_attachments",
    "check_request_limits",
    "glob_files",
    "grep_files",
    "is_quickly_checked",
    "list_directory",
    "named_file_ids",
    "read_file",
    "roots_for",
    "summarize_files",
]
