"""The ways in which clients write the path of a file: as a `file:` URI, as `@path`, with lines as `path:10-20`."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from mcp_server_claude.errors import RequestError
from mcp_server_claude.frozen_dataclass import frozen_dataclass

_FILE_URI = re.compile(
    r"file:(?://(?P<host>[^/]*)(?=/))?(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?", re.IGNORECASE
)
# `a.py:10-20`, `a.py:10`, `a.py:10:5` (line and column, as compilers write it), `a.py#L10-L20`.
_LINES = re.compile(
    r"(?::(?P<first>\d{1,8})(?:-(?P<last>\d{1,8})|:\d{1,8})?|#L(?P<first_l>\d{1,8})(?:-L?(?P<last_l>\d{1,8}))?)\Z"
)
_DRIVE = re.compile(r"/[A-Za-z]:/")
# The prefix of a path that Windows takes as it is written; programs print it where they have resolved a path.
_VERBATIM = re.compile(r"\\\\\?\\(?:(?P<share>UNC\\)|(?=[A-Za-z]:\\))", re.IGNORECASE)


@frozen_dataclass()
class LineRange:
    """Lines of a text file, from 1, the last one included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.last > self.first else str(self.first)


@frozen_dataclass()
class NamedPath:
    """A path, and the lines that were named with it; None for the whole file."""

    path: str
    lines: LineRange | None = None


def path_spellings(name: str) -> list[NamedPath]:
    """The paths that a name may mean: first exactly what is written, last the one with everything understood.

    Raises:
        RequestError: It is a `file:` URI of another machine.
    """
    path = _path_of_file_uri(name) if name[:5].lower() == "file:" else _without_verbatim_prefix(name)
    spellings = [NamedPath(path)]
    if path.startswith("@") and len(path) > 1:
        spellings.append(NamedPath(_without_verbatim_prefix(path[1:].removeprefix('"').removesuffix('"'))))
    return spellings + [named for each in spellings if (named := _without_lines(each.path)) is not None]


def _path_of_file_uri(uri: str) -> str:
    """The path of a `file:` URI (RFC 8089); a fragment with lines stays at its end."""
    parts = _FILE_URI.fullmatch(uri)
    if parts is None or (parts["host"] or "").lower() not in {"", "localhost"}:
        raise RequestError("A file: URI names a file of this machine as file:///path; this one does not.")
    path = unquote(parts["path"])
    if os.sep == "\\" and _DRIVE.match(path):  # file:///C:/x
        path = path[1:]
    return path + (parts["fragment"] or "")


def _without_verbatim_prefix(path: str) -> str:
    r"""`C:\x` of `\\?\C:\x` and `\\host\share\x` of `\\?\UNC\host\share\x`, on Windows."""
    prefix = _VERBATIM.match(path) if os.sep == "\\" else None
    return ("\\\\" if prefix["share"] else "") + path[prefix.end() :] if prefix else path


def _without_lines(path: str) -> NamedPath | None:
    """The path before a line number or range at its end; None where there is none."""
    match = _LINES.search(path)
    if match is None or match.start() == 0:
        return None
    first = int(match["first"] or match["first_l"])
    last = int(match["last"] or match["last_l"] or first)
    return NamedPath(path[: match.start()], LineRange(first, last)) if 1 <= first <= last else None
