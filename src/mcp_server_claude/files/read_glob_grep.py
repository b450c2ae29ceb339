"""What a delegate that looks around by itself is told: names, files and matches below the roots, by the same rules."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast

from mcp_server_claude.errors import ConfigurationError, RequestError
from mcp_server_claude.files import glob_patterns, helper_processes, resolve_path, sandbox, secret_names
from mcp_server_claude.files.attachment_builder import AttachmentBuilder
from mcp_server_claude.files.content_types import ImageFile, PdfFile, TextFile, detect_content
from mcp_server_claude.files.name_quoting import format_bytes, quote_name
from mcp_server_claude.files.sandbox import Roots, SandboxError
from mcp_server_claude.files.url_references import InlineContent
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mcp_server_claude.call_types import Block
    from mcp_server_claude.files.content_types import FileContent
    from mcp_server_claude.files.roots import FilePolicy
    from mcp_server_claude.files.sandbox import RootedPath

MAX_LISTED_ENTRIES = 500
MAX_READ_LINES = 2_000
MAX_READ_CHARS = 100_000
MAX_LINE_CHARS = 2_000
MAX_BINARY_RESULT_BYTES = 1_000_000
"""Bytes of a PDF or an image that a delegate is shown: it goes along with each look after that."""
GREP_TIMEOUT_S = 10.0
MAX_GREP_FILES = 5_000
MAX_GREP_TOTAL_BYTES = 100_000_000
MAX_GREP_FILE_BYTES = 5_000_000
MAX_GREP_PATTERN_CHARS = 1_000
MAX_GREP_MATCHES = 1_000
MAX_MATCH_CHARS = 300
LINE_END = re.compile(r"\r\n|\n|\r")
"""Where a line ends for editors; `str.splitlines` knows more."""


class FileReadingModel(Protocol):
    """The model that looks: what it can be shown."""

    @property
    def id(self) -> str: ...
    @property
    def images(self) -> bool: ...
    @property
    def pdf(self) -> bool: ...


def list_directory(path: str, policy: FilePolicy) -> str:
    """What is in a directory, a name a line, directories first and with a `/`; secret-looking names are left out.

    Raises:
        RequestError: there is no such directory below the roots.
    """
    ground = Roots.from_policy(policy)
    with resolve_path.open_named(path or ".", policy, ground) as found:
        if not found.is_directory:
            raise RequestError(
                f"{quote_name(path)} is a file of {format_bytes(found.stat_result.st_size)}, not a directory."
            )
        inside = found.list_entries(20 * MAX_LISTED_ENTRIES)
        base = found.rooted_path
    seen = [
        (not is_directory, name)
        for name, is_directory in inside
        if name != ".git" and not secret_names.matching_pattern((*base.parts, name), policy.allow_secret_names)
    ]
    lines = [_on_one_line(name) + ("" if is_file else "/") for is_file, name in sorted(seen)]
    more = [f"… and {len(lines) - MAX_LISTED_ENTRIES:,} more"] if len(lines) > MAX_LISTED_ENTRIES else []
    return "\n".join((*lines[:MAX_LISTED_ENTRIES], *more)) or "(empty)"


def glob_files(pattern: str, path: str, policy: FilePolicy) -> str:
    """The files that a glob matches below a directory, a name a line, as `files` and the other tools take it.

    Raises:
        RequestError: there is no such directory below the roots, or no file matches.
    """
    ground = Roots.from_policy(policy)
    glob = f"{path.rstrip('/')}/{pattern}" if path.strip("/.") or path.startswith(("/", "..")) else pattern
    found = glob_patterns.match_glob(glob, policy, ground)
    if not found.paths:
        raise glob_patterns.no_match_error(glob, policy, ground)
    lines = [_on_one_line(ground.display_path(spot)) for spot in found.paths[:MAX_LISTED_ENTRIES]]
    left = len(found.paths) - len(lines)
    more = [f"… and {left:,} more: narrow the glob"] if left or not found.complete else []
    return "\n".join((*lines, *more))


def read_file(
    path: str, policy: FilePolicy, first_line: int = 1, last_line: int = 0, *, model: FileReadingModel
) -> str | tuple[Block, ...]:
    """A file: of a text its lines, numbered, from `first` to `last` (0: its end), with a last line that says what is
    left; a PDF or an image as a model is shown it.

    Raises:
        RequestError: it is neither, is not there, ends before `first`, or the model cannot be shown it.
    """
    ground = Roots.from_policy(policy)
    content = _read_content(path, policy, ground)
    if isinstance(content, TextFile):
        return _number_lines(path, content.text, first_line, last_line)
    if isinstance(content, ImageFile | PdfFile) and len(content.data) > MAX_BINARY_RESULT_BYTES:
        raise RequestError(
            f"{quote_name(path)} is {format_bytes(len(content.data))} large; at most "
            f"{format_bytes(MAX_BINARY_RESULT_BYTES)} can be shown."
        )
    tray = AttachmentBuilder(policy, ground, supports_images=model.images, supports_pdf=model.pdf, model=model.id)
    tray.add_file(InlineContent(content, path))
    return tray.to_attachments().blocks


def grep_files(pattern: str, glob: str, policy: FilePolicy, limit: int = 100) -> str:
    """Lines that a regular expression (Python's) finds in the files that a glob matches: `path:line: text`.

    It takes 10 s at most, whatever the expression: it runs in a process of its own (see `matcher`). Only the first
    2,000 characters of a line are searched. The last line says how many files were searched and whether that was all.

    Raises:
        RequestError: the expression is none, or no file matches.
        ConfigurationError: no process can be started.
    """
    if not pattern or len(pattern) > MAX_GREP_PATTERN_CHARS:
        raise RequestError(f"A regular expression has 1 to {MAX_GREP_PATTERN_CHARS:,} characters.")
    until = time.monotonic() + GREP_TIMEOUT_S
    ground = Roots.from_policy(policy)
    spots = _files_to_search(glob or "**/*", policy, ground)
    if not spots:
        raise glob_patterns.no_match_error(glob, policy, ground)
    question = {
        "pattern": replace_lone_surrogates(pattern),
        "limit": max(1, min(limit, MAX_GREP_MATCHES)),
        "longest": MAX_LINE_CHARS,
        "width": MAX_MATCH_CHARS,
    }
    files = _GrepFiles(spots, policy, ground, until)
    found = list(_run_grep_worker(question, files, until))
    if error := next((each["error"] for each in found if "error" in each), ""):
        raise RequestError(f"The regular expression is not understood: {quote_name(str(error))}.")
    lines = [f"{_on_one_line(str(each['path']))}:{each['line']}: {each['text']}" for each in found if "path" in each]
    return "\n".join((*lines, _grep_summary(len(lines), found, files)))


def _grep_summary(count: int, found: list[Mapping[str, object]], files: _GrepFiles) -> str:
    told = f"{count:,} matching {'line' if count == 1 else 'lines'} in {files.count:,} files searched"
    if any("more" in each for each in found):
        return f"[{told}; there are more: narrow the pattern or the glob]"
    if not any("done" in each for each in found):
        return f"[{told}; stopped after {GREP_TIMEOUT_S:.0f} s: a simpler pattern or a narrower glob goes further]"
    if not files.complete:
        return f"[{told}; too many to search all: narrow the glob]"
    return f"[{told}]"


def _files_to_search(glob: str, policy: FilePolicy, roots: Roots) -> tuple[RootedPath, ...]:
    """The files of a glob, of a directory, or the one file."""
    if glob_patterns.is_glob(glob):
        return glob_patterns.match_glob(glob, policy, roots).paths
    with resolve_path.open_named(glob, policy, roots) as found:
        spot, is_directory = found.rooted_path, found.is_directory
    return glob_patterns.match_glob(f"{glob.rstrip('/')}/**", policy, roots).paths if is_directory else (spot,)


class _GrepFiles:
    """The texts to search, one by one; what is no text is passed over."""

    def __init__(self, paths: tuple[RootedPath, ...], policy: FilePolicy, roots: Roots, deadline: float) -> None:
        self._paths = paths
        self._policy = policy
        self._roots = roots
        self._deadline = deadline
        self.count = 0
        self.complete = True

    def __iter__(self) -> Iterator[Mapping[str, object]]:
        left = MAX_GREP_TOTAL_BYTES
        for spot in self._paths:
            if self.count >= MAX_GREP_FILES or left <= 0 or time.monotonic() > self._deadline:
                self.complete = False
                return
            data = self._read_data(spot)
            left -= len(data)
            content = detect_content(data)
            if isinstance(content, TextFile):
                self.count += 1
                yield {"path": self._roots.display_path(spot), "text": content.text}

    def _read_data(self, rooted_path: RootedPath) -> bytes:
        try:
            with sandbox.open_in_roots(rooted_path, self._roots) as found:
                if found.is_directory or secret_names.matching_pattern(
                    found.rooted_path.parts, self._policy.allow_secret_names
                ):
                    return b""
                if found.stat_result.st_size > MAX_GREP_FILE_BYTES:
                    self.complete = False
                    return b""
                return found.read(MAX_GREP_FILE_BYTES)
        except SandboxError:
            return b""


def _run_grep_worker(
    question: Mapping[str, object], files: Iterable[Mapping[str, object]], deadline: float
) -> Iterator[Mapping[str, object]]:
    """What the matcher says, as far as it comes until then."""
    matcher = Path(__file__).with_name("grep_worker.py")
    with tempfile.TemporaryFile() as said:  # not a pipe: nobody has to read while we write
        command = [sys.executable, "-I", "-S", str(matcher)]
        seconds = deadline - time.monotonic()
        try:
            with helper_processes.helper_process(
                command, timeout_s=seconds, stdin=subprocess.PIPE, stdout=said
            ) as running:
                _send_files(cast("IO[bytes]", running.stdin), question, files)
                running.wait()
        except OSError as error:
            why = type(error).__name__
            raise ConfigurationError(f"Python could not be started to search files ({why}).", kind="settings") from None
        said.seek(0)
        yield from _parse_matches(said)


def _send_files(to: IO[bytes], question: Mapping[str, object], files: Iterable[Mapping[str, object]]) -> None:
    try:
        for each in itertools.chain((question,), files):
            to.write(json.dumps(each).encode() + b"\n")
        to.close()
    except OSError:  # it has found enough, or was killed
        pass


def _parse_matches(said: IO[bytes]) -> Iterator[Mapping[str, object]]:
    for raw in said:
        if raw.endswith(b"\n"):
            yield cast("Mapping[str, object]", json.loads(raw))


def _read_content(path: str, policy: FilePolicy, roots: Roots) -> FileContent:
    with resolve_path.open_named(path, policy, roots) as found:
        if found.is_directory:
            raise resolve_path.is_directory_error(path, found)
        if found.stat_result.st_size > policy.max_file_bytes:
            raise RequestError(
                f"{quote_name(path)} is {format_bytes(found.stat_result.st_size)} large, too large to read.",
                kind="too_large",
            )
        return detect_content(found.read(policy.max_file_bytes))


def _number_lines(path: str, text: str, first: int, last: int) -> str:
    rows = LINE_END.split(text)
    rows = rows if rows[-1] else rows[:-1]
    if first > len(rows):
        lines = "line" if len(rows) == 1 else "lines"
        raise RequestError(f"{quote_name(path)} has {len(rows):,} {lines}; line {first:,} is after its end.")
    start = max(first, 1) - 1
    end = min(last, start + MAX_READ_LINES) if last > start else start + MAX_READ_LINES
    told: list[str] = []
    room = MAX_READ_CHARS
    for number, row in enumerate(rows[start:end], start + 1):
        line = f"{number:>6}\t{row[:MAX_LINE_CHARS]}" + (" …" if len(row) > MAX_LINE_CHARS else "")
        room -= len(line) + 1
        if room < 0 and told:
            break
        told.append(line)
    end = start + len(told)
    rest = f"[lines {start + 1:,} to {end:,} of {len(rows):,}; the rest begins at line {end + 1}]"
    return "\n".join((*told, rest) if end < len(rows) else told)


def _on_one_line(name: str) -> str:
    """A name on one line, whatever is in it."""
    return "".join(each if each.isprintable() else "\ufffd" for each in replace_lone_surrogates(name))
