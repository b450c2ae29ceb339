"""Input of a command that is sent along: its stdin, and files outside of the directories that a server may read.

A server reads only below its roots, since a model chooses the paths. At the shell the user names the file, so any
readable file is sent, unless its name looks like a secret's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files.content_types import TextFile, detect_content
from mcp_server_claude.files.secret_names import matching_pattern
from mcp_server_claude.files.url_references import data_uri
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FILE_BYTES = 64 * 1024 * 1024
READ_CHUNK_BYTES = 1 << 20
STDIN_NAME = "stdin"


def working_directory() -> Path:
    """The working directory.

    Raises:
        RequestError: It was deleted while the shell was in it.
    """
    try:
        return Path.cwd()
    except OSError:
        raise RequestError("The working directory does not exist any more. Change to another one.") from None


def read_stdin() -> bytes:
    """Everything on stdin, empty on a terminal.

    Raises:
        RequestError: It is larger than 64 MiB.
    """
    if sys.stdin is None or sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison] - None if closed
        return b""
    data = bytearray()
    while chunk := sys.stdin.buffer.read(READ_CHUNK_BYTES):  # a larger read takes all of its memory at once
        data += chunk
        if len(data) > MAX_FILE_BYTES:
            raise RequestError("The input on stdin is larger than 64 MiB.", kind="too_large")
    return bytes(data)


def stdin_text(data: bytes) -> str | None:
    """Input on stdin as text, decoded like a file that is sent along; None for anything else, such as a PDF."""
    content = detect_content(data)
    return content.text if isinstance(content, TextFile) else None


def check_utf8(text: str, what: str) -> None:
    """Check that an argument or a typed line is text; Python reads bytes that are not UTF-8 as lone surrogates.

    Raises:
        RequestError: It is not; `what` names it.
    """
    if "\0" in text or replace_lone_surrogates(text) != text:
        raise RequestError(f"{what} is not UTF-8 text. Nothing was sent.")


def named_files(names: Sequence[str], allow_names: Sequence[str]) -> list[str]:
    """The files of a command as a call takes them; without any, the working directory may be gone.

    Raises:
        RequestError: See `file_references` and `working_directory`.
    """
    return file_references(names, working_directory=working_directory(), allow_names=allow_names) if names else []


def file_references(names: Sequence[str], *, working_directory: Path, allow_names: Sequence[str]) -> list[str]:
    """The files as a call takes them: a file outside of the working directory as its data, any other as it is named.

    Raises:
        RequestError: A file outside cannot be read, or its name looks like a secret's.
    """
    return [_file_reference(name, working_directory.resolve(), allow_names) for name in names]


def _file_reference(name: str, working_directory: Path, allow_names: Sequence[str]) -> str:
    path = Path(name).expanduser()
    if ":" in name[2:] and not path.is_file():  # a URL, or lines of a file
        return name
    resolved = (working_directory / path).resolve()
    if resolved.is_relative_to(working_directory) or not resolved.is_file():
        return name
    if pattern := matching_pattern(resolved.parts[1:], allow_names):
        raise RequestError(
            f"{name} is not sent: judging by its name ({pattern}) it may contain a secret. If it does not, allow "
            "the name in MCP_CLAUDE_ALLOW_FILES, or pipe the file to stdin."
        )
    try:
        if resolved.stat().st_size > MAX_FILE_BYTES:
            raise RequestError(f"{name} is larger than 64 MiB.", kind="too_large")
        return data_uri(resolved.name, resolved.read_bytes())
    except OSError as error:
        raise RequestError(f"{name} cannot be read: {error.strerror or type(error).__name__}.") from None
