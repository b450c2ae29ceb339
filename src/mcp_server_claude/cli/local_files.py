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

    from mcp_server_claude.files import FilePolicy

MAX_FILE_BYTES = 64 * 1024 * 1024
READ_CHUNK_BYTES = 1 << 20
STDIN_NAME = "stdin"
GLOB_CHARACTERS = "*?["
NO_ROOT = (
    "A home directory, or one that contains it, is not read as a project. Change to the directory of a project, or "
    "name directories in MCP_CLAUDE_ROOTS."
)


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


def named_files(names: Sequence[str], policy: FilePolicy) -> list[str]:
    """The files of a command as a call takes them; without any, the working directory may be gone.

    Raises:
        RequestError: See `file_references` and `working_directory`.
    """
    return file_references(names, working_directory=working_directory(), policy=policy) if names else []


def file_references(names: Sequence[str], *, working_directory: Path, policy: FilePolicy) -> list[str]:
    """The files as a call takes them: a file of the working directory as it is named, any other as its data.

    A home directory is no root of a server, but a file in it that the user names is sent like one anywhere else.

    Raises:
        RequestError: A file that is sent as data cannot be read, or its name looks like a secret's; or there is no root
            for a glob.
    """
    return [_file_reference(name, working_directory.resolve(), policy) for name in names]


def check_has_root(policy: FilePolicy) -> None:
    """Check that files can be read by name.

    Raises:
        RequestError: They cannot, because the working directory is a home directory or contains one.
    """
    if not policy.roots:
        raise RequestError(NO_ROOT)


def _file_reference(name: str, working_directory: Path, policy: FilePolicy) -> str:
    path = Path(name).expanduser()
    if ":" in name[2:] and not path.is_file():  # a URL, or lines of a file
        if (working_directory / name.rpartition(":")[0]).is_file():
            check_has_root(policy)
        return name
    resolved = (working_directory / path).resolve()
    if not resolved.is_file():
        if any(character in name for character in GLOB_CHARACTERS):
            check_has_root(policy)
        return name
    if resolved.is_relative_to(working_directory) and any(
        resolved.is_relative_to(root.resolve()) for root in policy.roots
    ):
        return name
    if pattern := matching_pattern(resolved.parts[1:], policy.allow_secret_names):
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
