"""The tools with which a model explores the files below the roots: list, glob, grep and read, under the same policy."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast

from mcp_server_claude import number_formatting
from mcp_server_claude.errors import ConfigurationError, RequestError
from mcp_server_claude.files import glob_patterns, helper_processes, resolve_path, sandbox, secret_names
from mcp_server_claude.files.attachment_builder import AttachmentBuilder
from mcp_server_claude.files.content_types import ImageFile, PdfFile, TextFile, detect_content
from mcp_server_claude.files.helper_processes import RunLimit
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
"""Size of a PDF or image that `read` returns; it is sent again with every later request of the call."""
GREP_TIMEOUT_S = 10.0
MAX_GREP_FILES = 5_000
MAX_GREP_TOTAL_BYTES = 100_000_000
MAX_GREP_FILE_BYTES = 5_000_000
MAX_GREP_PATTERN_CHARS = 1_000
MAX_GREP_MATCHES = 1_000
MAX_MATCH_CHARS = 300


class FileReadingModel(Protocol):
    """The model that explores, and the types of file that it takes."""

    @property
    def id(self) -> str: ...
    @property
    def images(self) -> bool: ...
    @property
    def pdf(self) -> bool: ...


def list_directory(path: str, policy: FilePolicy) -> str:
    """The entries of a directory, one a line, directories first and with a `/`; without names that look like secrets.

    Raises:
        RequestError: There is no such directory below the roots.
    """
    roots = Roots.from_policy(policy)
    with resolve_path.open_named(path or ".", policy, roots) as directory:
        if not directory.is_directory:
            size = format_bytes(directory.stat_result.st_size)
            raise RequestError(f"{quote_name(path)} is a file of {size}, not a directory.")
        entries = directory.list_entries(20 * MAX_LISTED_ENTRIES)
        base = directory.rooted_path
    visible = sorted(
        (not is_directory, name)
        for name, is_directory in entries
        if name != ".git" and not secret_names.matching_pattern((*base.parts, name), policy.allow_secret_names)
    )
    lines = [_on_one_line(name) + ("" if is_file else "/") for is_file, name in visible]
    more = [f"… and {len(lines) - MAX_LISTED_ENTRIES:,} more"] if len(lines) > MAX_LISTED_ENTRIES else []
    return "\n".join((*lines[:MAX_LISTED_ENTRIES], *more)) or "(empty)"


def glob_files(pattern: str, path: str, policy: FilePolicy, limit: RunLimit | None = None) -> str:
    """The files that a glob matches below a directory, one a line, as `files` and the other tools take them.

    Raises:
        RequestError: There is no such directory below the roots, or no file matches.
    """
    roots = Roots.from_policy(policy)
    glob = f"{path.rstrip('/')}/{pattern}" if path.strip("/.") or path.startswith(("/", "..")) else pattern
    matches = glob_patterns.match_glob(glob, policy, roots, limit)
    if not matches.paths:
        raise glob_patterns.no_match_error(glob, policy, roots, limit)
    lines = [_on_one_line(roots.display_path(path)) for path in matches.paths[:MAX_LISTED_ENTRIES]]
    omitted = len(matches.paths) - len(lines)
    more = [f"… and {omitted:,} more: narrow the glob"] if omitted or not matches.complete else []
    return "\n".join((*lines, *more))


def read_file(
    path: str, policy: FilePolicy, first_line: int = 1, last_line: int = 0, *, model: FileReadingModel
) -> str | tuple[Block, ...]:
    """The numbered lines of a text file from `first_line` to `last_line` (0: its end), with a note on lines after them;
    the content blocks of a PDF or an image. `path` may name lines itself (`a.py:10-20`).

    Raises:
        RequestError: The file does not exist, ends before `first_line`, or is of a type that the model does not take.
    """
    roots = Roots.from_policy(policy)
    named = resolve_path.choose_spelling(path, policy, roots)
    if named.lines is not None and (first_line, last_line) == (1, 0):
        first_line, last_line = named.lines.first, named.lines.last
    content = _read_content(named.path, policy, roots)
    if isinstance(content, TextFile):
        return _number_lines(named.path, content.lines(), first_line, last_line)
    if isinstance(content, ImageFile | PdfFile) and len(content.data) > MAX_BINARY_RESULT_BYTES:
        size, limit = format_bytes(len(content.data)), format_bytes(MAX_BINARY_RESULT_BYTES)
        raise RequestError(f"{quote_name(path)} has {size}; at most {limit} can be shown.")
    builder = AttachmentBuilder(policy, roots, supports_images=model.images, supports_pdf=model.pdf, model=model.id)
    builder.add_file(InlineContent(content, named.path))
    return builder.to_attachments().blocks


def grep_files(
    pattern: str, glob: str, policy: FilePolicy, max_matches: int = 100, limit: RunLimit | None = None
) -> str:
    """Lines that a Python regular expression finds in a file, a directory or the files of a glob: `path:line: text`.

    Ends after `GREP_TIMEOUT_S` whatever the expression, since it runs in a process of its own (`grep_worker`), and
    earlier with `limit`. Searches the first 2,000 characters of each line. The last line of the result says how many
    files were searched and whether these were all.

    Raises:
        RequestError: The expression is invalid, or no file matches.
        ConfigurationError: The process cannot be started.
    """
    if not pattern or len(pattern) > MAX_GREP_PATTERN_CHARS:
        raise RequestError(f"A regular expression has 1 to {MAX_GREP_PATTERN_CHARS:,} characters.")
    limit = limit or RunLimit()
    timeout_s = limit.remaining_s(GREP_TIMEOUT_S)
    deadline = time.monotonic() + timeout_s
    roots = Roots.from_policy(policy)
    paths = _files_to_search(glob or "**/*", policy, roots, limit)
    if not paths:
        raise glob_patterns.no_match_error(glob, policy, roots, limit)
    query = {
        "pattern": replace_lone_surrogates(pattern),
        "max_matches": max(1, min(max_matches, MAX_GREP_MATCHES)),
        "max_line_chars": MAX_LINE_CHARS,
        "max_match_chars": MAX_MATCH_CHARS,
    }
    files = _GrepFiles(paths, policy, roots, deadline)
    results = list(_run_grep_worker(query, files, deadline, limit))
    if error := next((each["error"] for each in results if "error" in each), ""):
        raise RequestError(f"The regular expression is not understood: {quote_name(str(error))}.")
    lines = [f"{_on_one_line(str(each['path']))}:{each['line']}: {each['text']}" for each in results if "path" in each]
    return "\n".join((*lines, _grep_summary(len(lines), results, files, timeout_s)))


def _grep_summary(count: int, results: list[Mapping[str, object]], files: _GrepFiles, timeout_s: float) -> str:
    lines = number_formatting.format_count(count, "matching line")
    summary = f"{lines} in {number_formatting.format_count(files.count, 'file')} searched"
    if any("more" in each for each in results):
        return f"[{summary}; there are more: narrow the pattern or the glob]"
    if not any("done" in each for each in results):
        return f"[{summary}; stopped after {timeout_s:.0f} s: try a simpler pattern or a narrower glob]"
    if not files.complete:
        return f"[{summary}; too many to search all: narrow the glob]"
    return f"[{summary}]"


def _files_to_search(glob: str, policy: FilePolicy, roots: Roots, limit: RunLimit) -> tuple[RootedPath, ...]:
    """The files of a glob, of a directory, or the one file."""
    path = resolve_path.choose_spelling(glob, policy, roots).path
    if glob_patterns.is_glob(path) and not resolve_path.exists(path, policy, roots):
        return glob_patterns.match_glob(path, policy, roots, limit).paths
    with resolve_path.open_named(path, policy, roots) as file:
        rooted_path, is_directory = file.rooted_path, file.is_directory
    if is_directory:
        return glob_patterns.match_glob(f"{path.rstrip('/')}/**", policy, roots, limit).paths
    return (rooted_path,)


class _GrepFiles:
    """The texts to search, read one by one; other files are skipped."""

    def __init__(self, paths: tuple[RootedPath, ...], policy: FilePolicy, roots: Roots, deadline: float) -> None:
        self._paths = paths
        self._policy = policy
        self._roots = roots
        self._deadline = deadline
        self.count = 0
        self.complete = True

    def __iter__(self) -> Iterator[Mapping[str, object]]:
        bytes_left = MAX_GREP_TOTAL_BYTES
        for path in self._paths:
            if self.count >= MAX_GREP_FILES or bytes_left <= 0 or time.monotonic() > self._deadline:
                self.complete = False
                return
            data = self._read_data(path)
            bytes_left -= len(data)
            content = detect_content(data)
            if isinstance(content, TextFile):
                self.count += 1
                yield {"path": self._roots.display_path(path), "text": content.text}

    def _read_data(self, rooted_path: RootedPath) -> bytes:
        try:
            with sandbox.open_in_roots(rooted_path, self._roots) as file:
                secret = secret_names.matching_pattern(file.rooted_path.parts, self._policy.allow_secret_names)
                if file.is_directory or secret:
                    return b""
                if file.stat_result.st_size > MAX_GREP_FILE_BYTES:
                    self.complete = False
                    return b""
                return file.read(MAX_GREP_FILE_BYTES)
        except SandboxError:
            return b""


def _run_grep_worker(
    query: Mapping[str, object], files: Iterable[Mapping[str, object]], deadline: float, limit: RunLimit
) -> Iterator[Mapping[str, object]]:
    """The results of the grep worker, those before the deadline where it does not end by itself."""
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("grep_worker.py"))]
    with tempfile.TemporaryFile() as output:  # a pipe would have to be read while the files are written
        try:
            with helper_processes.helper_process(
                command,
                timeout_s=max(0.0, deadline - time.monotonic()),
                limit=limit,
                stdin=subprocess.PIPE,
                stdout=output,
            ) as process:
                _send_files(cast("IO[bytes]", process.stdin), query, files)
                process.wait()
        except OSError as error:
            reason = type(error).__name__
            message = f"Python could not be started to search files ({reason})."
            raise ConfigurationError(message, kind="settings") from None
        output.seek(0)
        yield from _parse_results(output)


def _send_files(stdin: IO[bytes], query: Mapping[str, object], files: Iterable[Mapping[str, object]]) -> None:
    try:
        for each in itertools.chain((query,), files):
            stdin.write(json.dumps(each).encode() + b"\n")
        stdin.close()
    except OSError:  # the worker has found enough, or was killed
        pass


def _parse_results(output: IO[bytes]) -> Iterator[Mapping[str, object]]:
    for line in output:
        if line.endswith(b"\n"):
            yield cast("Mapping[str, object]", json.loads(line))


def _read_content(path: str, policy: FilePolicy, roots: Roots) -> FileContent:
    with resolve_path.open_named(path, policy, roots) as file:
        if file.is_directory:
            raise resolve_path.is_directory_error(path, file)
        if file.stat_result.st_size > policy.max_file_bytes:
            size = format_bytes(file.stat_result.st_size)
            raise RequestError(f"{quote_name(path)} has {size}, too much to read.", kind="too_large")
        return detect_content(file.read(policy.max_file_bytes))


def _number_lines(path: str, rows: list[str], first_line: int, last_line: int) -> str:
    if first_line > len(rows):
        length = number_formatting.format_count(len(rows), "line")
        raise RequestError(f"{quote_name(path)} has {length}; line {first_line:,} is after its end.")
    start = max(first_line, 1) - 1
    end = min(last_line, start + MAX_READ_LINES) if last_line > start else start + MAX_READ_LINES
    numbered: list[str] = []
    chars_left = MAX_READ_CHARS
    for number, row in enumerate(rows[start:end], start + 1):
        line = f"{number:>6}\t{row[:MAX_LINE_CHARS]}" + (" …" if len(row) > MAX_LINE_CHARS else "")
        chars_left -= len(line) + 1
        if chars_left < 0 and numbered:
            break
        numbered.append(line)
    end = start + len(numbered)
    rest = f"[lines {start + 1:,} to {end:,} of {len(rows):,}; the rest begins at line {end + 1}]"
    return "\n".join((*numbered, rest) if end < len(rows) else numbered)


def _on_one_line(name: str) -> str:
    """A name with unprintable characters replaced, so that it stays on one line."""
    return "".join(each if each.isprintable() else "\ufffd" for each in replace_lone_surrogates(name))
