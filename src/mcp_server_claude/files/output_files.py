"""Writes output files below the roots: whole or not at all, and never over a file that is not their own.

The directory is opened without following links out of the roots (`sandbox`). The content goes into a temporary file
beside the target, which then takes its name in one step.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from secrets import token_hex
from typing import TYPE_CHECKING

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import resolve_path, sandbox
from mcp_server_claude.files.name_quoting import quote_name
from mcp_server_claude.files.sandbox import Roots, SandboxError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from mcp_server_claude.files.roots import FilePolicy
    from mcp_server_claude.files.sandbox import OpenFile

OUTPUT_ENDINGS = (".jsonl", ".csv")
READ_CHUNK_BYTES = 1 << 20

_COMMON_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
"""Without O_BINARY Windows changes the ends of lines, and a file ends at Ctrl-Z."""


def check_output_path(name: str, policy: FilePolicy) -> tuple[str, str]:
    """The absolute path of an output file, and the SHA-256 of the file that is there, or an empty string.

    Blocks on the disk: run it on a thread.

    Raises:
        RequestError: It is not below the roots, its directory is missing, or the name cannot be used.
    """
    roots = Roots.from_policy(policy)
    rooted_path = resolve_path.resolve_name(name, policy, roots)
    if not rooted_path.parts or not rooted_path.parts[-1].lower().endswith(OUTPUT_ENDINGS):
        raise RequestError(f"output must be the path of a {' or '.join(OUTPUT_ENDINGS)} file.")
    with _open_parent(rooted_path.path, policy) as (directory, base):
        return os.path.join(directory.rooted_path.path, base), _digest_of(directory, base)  # noqa: PTH118 - strings


class OutputWriter:
    """Writes one output file piece by piece; `commit` gives it its name. Blocks on the disk: run it on a thread."""

    def __init__(self, path: str, policy: FilePolicy, own_digest: str) -> None:
        """`own_digest` is the SHA-256 of what was written there before, or empty."""
        self._path, self._policy, self._own_digest = path, policy, own_digest
        self._hash = hashlib.sha256()
        self._open = ExitStack()
        self._directory, self._base = self._open.enter_context(_open_parent(path, policy))
        self._temporary = f".claude_map_{token_hex(8)}.tmp"  # without the name, which may be as long as names can be
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COMMON_FLAGS
        try:
            self._descriptor = os.open(self._locate(self._temporary), flags, 0o644, dir_fd=self._dir_fd)
        except BaseException:
            self._open.close()
            raise

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def commit(self) -> str:
        """Put the file in its place. Returns its SHA-256.

        Raises:
            RequestError: A different file is there by now.
        """
        os.fsync(self._descriptor)
        self._close_descriptor()  # Windows does not rename an open file
        digest = self._hash.hexdigest()
        present = _digest_of(self._directory, self._base)
        if present not in {"", self._own_digest, digest}:
            raise RequestError(f"{quote_name(self._path)} exists and is a different file.")
        os.replace(
            self._locate(self._temporary),
            self._locate(self._base),
            src_dir_fd=self._dir_fd,
            dst_dir_fd=self._dir_fd,
        )
        return digest

    def close(self) -> None:
        """Close the file, and remove it if it was not committed."""
        self._close_descriptor()
        with suppress(OSError):
            os.unlink(self._locate(self._temporary), dir_fd=self._dir_fd)
        self._open.close()

    def _close_descriptor(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    @property
    def _dir_fd(self) -> int | None:
        handle = self._directory.handle
        return handle if isinstance(handle, int) else None

    def _locate(self, name: str) -> str:
        handle = self._directory.handle
        return name if isinstance(handle, int) else os.path.join(handle, name)  # noqa: PTH118


@contextmanager
def _open_parent(name: str, policy: FilePolicy) -> Generator[tuple[OpenFile, str]]:
    """The open directory of a path below the roots, and the last component of the path.

    Raises:
        RequestError: There is no such directory below the roots.
    """
    roots = Roots.from_policy(policy)
    rooted_path = resolve_path.resolve_name(name, policy, roots)
    parent = rooted_path.ancestor(len(rooted_path.parts) - 1)
    try:
        with sandbox.open_in_roots(parent, roots) as directory:
            if not directory.is_directory:
                raise RequestError(f"{quote_name(name)} cannot be written: it lies in a file.")
            yield directory, rooted_path.parts[-1]
    except SandboxError as error:
        raise RequestError(f"{quote_name(name)} cannot be written: its directory {_why(error)}.") from None


def _why(error: SandboxError) -> str:
    return {"missing": "does not exist", "denied": "cannot be opened"}.get(error.reason, "is not below the roots")


def _digest_of(directory: OpenFile, base: str) -> str:
    """The SHA-256 of a regular file in a directory; empty if there is none.

    Raises:
        RequestError: There is something else of that name, or it cannot be read.
    """
    handle = directory.handle
    path, dir_fd = (base, handle) if isinstance(handle, int) else (os.path.join(handle, base), None)  # noqa: PTH118
    try:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _COMMON_FLAGS
        descriptor = os.open(path, flags, dir_fd=dir_fd)
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise RequestError(f"{quote_name(base)} is too long for the name of a file.") from None
        raise RequestError(f"{quote_name(base)} exists and cannot be overwritten.") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise RequestError(f"{quote_name(base)} exists and is not a file.")
        digest = hashlib.sha256()
        for chunk in _chunks(descriptor):
            digest.update(chunk)
        return digest.hexdigest()
    finally:
        os.close(descriptor)


def _chunks(descriptor: int) -> Iterator[bytes]:
    while chunk := os.read(descriptor, READ_CHUNK_BYTES):
        yield chunk
