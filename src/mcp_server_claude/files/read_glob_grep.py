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

from mcp_server_claude.errors import Misconfigured, Refused
from mcp_server_claude.files import glob_patterns, helper_processes, resolve_path, sandbox, secret_names
from mcp_server_claude.files.attachment_builder import Tray
from mcp_server_claude.files.content_types import Image, Pdf, Text, kind
from mcp_server_claude.files.name_quoting import shown, size
from mcp_server_claude.files.sandbox import Blocked, Ground
from mcp_server_claude.files.url_references import Inline
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mcp_server_claude.call_types import Block
    from mcp_server_claude.files.content_types import Kind
    from mcp_server_claude.files.roots import Rules
    from mcp_server_claude.files.sandbox import Spot

MOST_ENTRIES = 500
MOST_LINES = 2_000
MOST_CHARS = 100_000
LONGEST_LINE = 2_000
LARGEST_SHOWN = 1_000_000
"""Bytes of a PDF or an image that a delegate is shown: it goes along with each look after that."""
SEARCH_S = 10.0
MOST_SEARCHED = 5_000
MOST_SEARCHED_BYTES = 100_000_000
LARGEST_SEARCHED = 5_000_000
LONGEST_PATTERN = 1_000
MOST_MATCHES = 1_000
WIDTH = 300
LINE_END = re.compile(r"\r\n|\n|\r")
"""Where a line ends for editors; `str.splitlines` knows more."""


class Reader(Protocol):
    """The model that looks: what it can be shown."""

    @property
    def id(self) -> str: ...
    @property
    def images(self) -> bool: ...
    @property
    def pdf(self) -> bool: ...


def list_dir(path: str, rules: Rules) -> str:
    """What is in a directory, a name a line, directories first and with a `/`; secret-looking names are left out.

    Raises:
        Refused: there is no such directory below the roots.
    """
    ground = Ground.of(rules)
    with resolve_path.opened(path or ".", rules, ground) as found:
        if not found.is_directory:
            raise Refused(f"{shown(path)} is a file of {size(found.seen.st_size)}, not a directory.")
        inside = found.entries(20 * MOST_ENTRIES)
        base = found.spot
    seen = [
        (not is_directory, name)
        for name, is_directory in inside
        if name != ".git" and not secret_names.why((*base.parts, name), rules.allow_secret_names)
    ]
    lines = [_line(name) + ("" if is_file else "/") for is_file, name in sorted(seen)]
    more = [f"… and {len(lines) - MOST_ENTRIES:,} more"] if len(lines) > MOST_ENTRIES else []
    return "\n".join((*lines[:MOST_ENTRIES], *more)) or "(empty)"


def find(pattern: str, path: str, rules: Rules) -> str:
    """The files that a glob matches below a directory, a name a line, as `files` and the other tools take it.

    Raises:
        Refused: there is no such directory below the roots, or no file matches.
    """
    ground = Ground.of(rules)
    glob = f"{path.rstrip('/')}/{pattern}" if path.strip("/.") or path.startswith(("/", "..")) else pattern
    found = glob_patterns.matched(glob, rules, ground)
    if not found.spots:
        raise glob_patterns.nothing(glob, rules, ground)
    lines = [_line(ground.label(spot)) for spot in found.spots[:MOST_ENTRIES]]
    left = len(found.spots) - len(lines)
    more = [f"… and {left:,} more: narrow the glob"] if left or not found.whole else []
    return "\n".join((*lines, *more))


def read_file(path: str, rules: Rules, first: int = 1, last: int = 0, *, model: Reader) -> str | tuple[Block, ...]:
    """A file: of a text its lines, numbered, from `first` to `last` (0: its end), with a last line that says what is
    left; a PDF or an image as a model is shown it.

    Raises:
        Refused: it is neither, is not there, ends before `first`, or the model cannot be shown it.
    """
    ground = Ground.of(rules)
    content = _content(path, rules, ground)
    if isinstance(content, Text):
        return _numbered(path, content.text, first, last)
    if isinstance(content, Image | Pdf) and len(content.data) > LARGEST_SHOWN:
        raise Refused(f"{shown(path)} is {size(len(content.data))} large; at most {size(LARGEST_SHOWN)} can be shown.")
    tray = Tray(rules, ground, takes_images=model.images, takes_pdf=model.pdf, model=model.id)
    tray.put(Inline(content, path))
    return tray.gathered().blocks


def grep(pattern: str, glob: str, rules: Rules, limit: int = 100) -> str:
    """Lines that a regular expression (Python's) finds in the files that a glob matches: `path:line: text`.

    It takes 10 s at most, whatever the expression: it runs in a process of its own (see `matcher`). Only the first
    2,000 characters of a line are searched. The last line says how many files were searched and whether that was all.

    Raises:
        Refused: the expression is none, or no file matches.
        Misconfigured: no process can be started.
    """
    if not pattern or len(pattern) > LONGEST_PATTERN:
        raise Refused(f"A regular expression has 1 to {LONGEST_PATTERN:,} characters.")
    until = time.monotonic() + SEARCH_S
    ground = Ground.of(rules)
    spots = _spots(glob or "**/*", rules, ground)
    if not spots:
        raise glob_patterns.nothing(glob, rules, ground)
    question = {
        "pattern": replace_lone_surrogates(pattern),
        "limit": max(1, min(limit, MOST_MATCHES)),
        "longest": LONGEST_LINE,
        "width": WIDTH,
    }
    files = _Files(spots, rules, ground, until)
    found = list(_matched(question, files, until))
    if error := next((each["error"] for each in found if "error" in each), ""):
        raise Refused(f"The regular expression is not understood: {shown(str(error))}.")
    lines = [f"{_line(str(each['path']))}:{each['line']}: {each['text']}" for each in found if "path" in each]
    return "\n".join((*lines, _ending(len(lines), found, files)))


def _ending(count: int, found: list[Mapping[str, object]], files: _Files) -> str:
    told = f"{count:,} matching {'line' if count == 1 else 'lines'} in {files.searched:,} files searched"
    if any("more" in each for each in found):
        return f"[{told}; there are more: narrow the pattern or the glob]"
    if not any("done" in each for each in found):
        return f"[{told}; stopped after {SEARCH_S:.0f} s: a simpler pattern or a narrower glob goes further]"
    if not files.whole:
        return f"[{told}; too many to search all: narrow the glob]"
    return f"[{told}]"


def _spots(glob: str, rules: Rules, ground: Ground) -> tuple[Spot, ...]:
    """The files of a glob, of a directory, or the one file."""
    if glob_patterns.is_glob(glob):
        return glob_patterns.matched(glob, rules, ground).spots
    with resolve_path.opened(glob, rules, ground) as found:
        spot, is_directory = found.spot, found.is_directory
    return glob_patterns.matched(f"{glob.rstrip('/')}/**", rules, ground).spots if is_directory else (spot,)


class _Files:
    """The texts to search, one by one; what is no text is passed over."""

    def __init__(self, spots: tuple[Spot, ...], rules: Rules, ground: Ground, until: float) -> None:
        self._spots = spots
        self._rules = rules
        self._ground = ground
        self._until = until
        self.searched = 0
        self.whole = True

    def __iter__(self) -> Iterator[Mapping[str, object]]:
        left = MOST_SEARCHED_BYTES
        for spot in self._spots:
            if self.searched >= MOST_SEARCHED or left <= 0 or time.monotonic() > self._until:
                self.whole = False
                return
            data = self._data(spot)
            left -= len(data)
            content = kind(data)
            if isinstance(content, Text):
                self.searched += 1
                yield {"path": self._ground.label(spot), "text": content.text}

    def _data(self, spot: Spot) -> bytes:
        try:
            with sandbox.opened(spot, self._ground) as found:
                if found.is_directory or secret_names.why(found.spot.parts, self._rules.allow_secret_names):
                    return b""
                if found.seen.st_size > LARGEST_SEARCHED:
                    self.whole = False
                    return b""
                return found.read(LARGEST_SEARCHED)
        except Blocked:
            return b""


def _matched(
    question: Mapping[str, object], files: Iterable[Mapping[str, object]], until: float
) -> Iterator[Mapping[str, object]]:
    """What the matcher says, as far as it comes until then."""
    matcher = Path(__file__).with_name("grep_worker.py")
    with tempfile.TemporaryFile() as said:  # not a pipe: nobody has to read while we write
        command = [sys.executable, "-I", "-S", str(matcher)]
        seconds = until - time.monotonic()
        try:
            with helper_processes.started(command, seconds=seconds, stdin=subprocess.PIPE, stdout=said) as running:
                _ask(cast("IO[bytes]", running.stdin), question, files)
                running.wait()
        except OSError as error:
            why = type(error).__name__
            raise Misconfigured(f"Python could not be started to search files ({why}).", kind="settings") from None
        said.seek(0)
        yield from _lines(said)


def _ask(to: IO[bytes], question: Mapping[str, object], files: Iterable[Mapping[str, object]]) -> None:
    try:
        for each in itertools.chain((question,), files):
            to.write(json.dumps(each).encode() + b"\n")
        to.close()
    except OSError:  # it has found enough, or was killed
        pass


def _lines(said: IO[bytes]) -> Iterator[Mapping[str, object]]:
    for raw in said:
        if raw.endswith(b"\n"):
            yield cast("Mapping[str, object]", json.loads(raw))


def _content(path: str, rules: Rules, ground: Ground) -> Kind:
    with resolve_path.opened(path, rules, ground) as found:
        if found.is_directory:
            raise resolve_path.directory(path, found)
        if found.seen.st_size > rules.max_file_bytes:
            raise Refused(f"{shown(path)} is {size(found.seen.st_size)} large, too large to read.", kind="too_large")
        return kind(found.read(rules.max_file_bytes))


def _numbered(path: str, text: str, first: int, last: int) -> str:
    rows = LINE_END.split(text)
    rows = rows if rows[-1] else rows[:-1]
    if first > len(rows):
        lines = "line" if len(rows) == 1 else "lines"
        raise Refused(f"{shown(path)} has {len(rows):,} {lines}; line {first:,} is after its end.")
    start = max(first, 1) - 1
    end = min(last, start + MOST_LINES) if last > start else start + MOST_LINES
    told: list[str] = []
    room = MOST_CHARS
    for number, row in enumerate(rows[start:end], start + 1):
        line = f"{number:>6}\t{row[:LONGEST_LINE]}" + (" …" if len(row) > LONGEST_LINE else "")
        room -= len(line) + 1
        if room < 0 and told:
            break
        told.append(line)
    end = start + len(told)
    rest = f"[lines {start + 1:,} to {end:,} of {len(rows):,}; the rest begins at line {end + 1}]"
    return "\n".join((*told, rest) if end < len(rows) else told)


def _line(name: str) -> str:
    """A name on one line, whatever is in it."""
    return "".join(each if each.isprintable() else "\ufffd" for each in replace_lone_surrogates(name))
