"""Standard input, output and error of a process that was started without some of them, and text as UTF-8."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from typing_extensions import Buffer

REPLACE_AND_COUNT = "replace_and_count"
"""The name under which `ReplacedCharacters` is an error handler of Python's codecs."""


def restart_in_utf8_mode() -> None:
    """Start this process again in Python's UTF-8 mode if file names, arguments and variables are read as ASCII.

    Python does so by itself in the C locale, unless `PYTHONUTF8=0` and `LC_ALL=C` are set (PEP 538, PEP 540). A prompt
    would then arrive as half characters, and no file with another name could be opened.
    """
    if sys.flags.utf8_mode or os.name != "posix" or not sys.executable or not is_ascii(sys.getfilesystemencoding()):
        return
    command = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
    os.execve(sys.executable, command, os.environ | {"PYTHONUTF8": "1"})  # noqa: S606 - no shell is wanted


def is_ascii(encoding: str) -> bool:
    """True for the names of ASCII."""
    return codecs.lookup(encoding).name == "ascii"


def open_missing_streams() -> frozenset[int]:
    """Open the null device in place of closed standard descriptors.

    Otherwise the next file that is opened, such as the database, gets their number, and what is printed ends in it.

    Returns:
        The descriptors that were closed.
    """
    missing = frozenset(descriptor for descriptor in (0, 1, 2) if not _is_open(descriptor))
    for _ in missing:
        os.open(os.devnull, os.O_RDWR)  # the lowest free number
    if 0 in missing:
        sys.stdin = os.fdopen(0, "r", closefd=False, encoding="utf-8")
    if 1 in missing:
        sys.stdout = os.fdopen(1, "w", closefd=False, encoding="utf-8")
    if 2 in missing:
        sys.stderr = os.fdopen(2, "w", closefd=False, encoding="utf-8")
    return missing


class ReplacedCharacters:
    """Prints ? for characters that the encoding of standard output lacks, and remembers that it did."""

    def __init__(self) -> None:
        self.count = 0
        codecs.register_error(REPLACE_AND_COUNT, self._replace)

    def _replace(self, error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        length = error.end - error.start
        self.count += length
        return "?" * length, error.end


def flush_stdout() -> None:
    """Write what is left in standard output. Where it takes no more, the rest is dropped: Python would end with 120.

    Raises:
        OSError: It cannot be written, e.g. because the disk is full or the reader of a pipe has ended.
    """
    try:
        sys.stdout.flush()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        raise


def drop_unwritable_stderr() -> None:
    """Give up standard error where it takes no more, as on a full disk: Python would end with 120 for its rest."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.stderr = None


class StderrDescriptor(io.RawIOBase):
    """Standard error of a command: what it does not take is lost, and the command goes on.

    The work is done then, and paid for. Only the output on stdout decides whether the command has succeeded.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return self._raw.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._raw.isatty()

    def write(self, data: Buffer, /) -> int:
        """Write as much as can be written; the number of bytes that are done with."""
        try:
            count = self._raw.write(data)
        except OSError:
            count = None
        return memoryview(data).nbytes if count is None else count


def lose_unwritable_messages() -> None:
    """Let messages on standard error be lost where it takes no more, as on a full disk or in a closed pipe."""
    before = sys.stderr
    if before and before is sys.__stderr__:
        raw = cast("io.RawIOBase", getattr(before.buffer, "raw", before.buffer))  # itself with PYTHONUNBUFFERED
        buffer = io.BufferedWriter(StderrDescriptor(raw))
        sys.stderr = io.TextIOWrapper(buffer, before.encoding, before.errors, line_buffering=True)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
