"""Items of a job from the files that a source names: one file an item of a glob, one row an item of a table.

Rows are read one after the other, so that a table of any length takes little memory.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, TextIO, cast

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import glob_patterns, resolve_path, sandbox, secret_names
from mcp_server_claude.files.name_quoting import quote_name
from mcp_server_claude.files.sandbox import Roots, SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mcp_server_claude.files.helper_processes import RunLimit
    from mcp_server_claude.files.roots import FilePolicy
    from mcp_server_claude.files.sandbox import OpenFile, RootedPath

TABLE_ENDINGS = (".jsonl", ".csv", ".tsv")
MAX_ROW_CHARS = 1_000_000
MAX_TABLE_BYTES = 512 << 20
"""Bytes of a table, more than the 100,000 rows that a job takes usually have: a larger one is refused unread."""
QUOTED_FIELD = re.compile(r'"[^"]*"')


def is_item_source(entry: str) -> bool:
    """Return True if the only entry of `items` is a path of a table or a glob, not an item itself."""
    name = entry.strip()
    return "\n" not in name and (name.lower().endswith(TABLE_ENDINGS) or "*" in name)


def read_item_source(source: str, policy: FilePolicy, limit: RunLimit | None = None) -> Iterator[dict[str, object]]:
    """The items of a table or a glob: `{"row": {...}}`, `{"item": "..."}` for a JSONL line that is no object, or
    `{"file": path, ...}` with what identifies a changed file.

    Blocks on the disk: run it on a thread.

    Raises:
        RequestError: It cannot be read, a row is malformed, or nothing matches.
    """
    if source.lower().endswith(TABLE_ENDINGS) and "*" not in source:
        return _read_table(source, policy)
    return _match_files(source, policy, limit)


def map_files(paths: Sequence[str], policy: FilePolicy) -> Iterator[dict[str, object]]:
    """An item for each of some files. Blocks on the disk: run it on a thread.

    Raises:
        RequestError: One is missing, is a directory, is not below the roots, or its name looks like a secret's.
    """
    roots = Roots.from_policy(policy)
    for name in paths:
        with resolve_path.open_named(name, policy, roots) as file:
            if file.is_directory:
                raise resolve_path.is_directory_error(name, file)
            yield _file_item(resolve_path.resolve_name(name, policy, roots), file, roots)


def read_table(name: str, text: TextIO) -> Iterator[dict[str, object]]:
    """The rows of a table by the ending of its name, as items.

    Raises:
        RequestError: Its name has another ending, it is not UTF-8, or a row is malformed.
    """
    if not name.lower().endswith(TABLE_ENDINGS):
        raise RequestError(f"{quote_name(name)} is not a table: its name must end in {', '.join(TABLE_ENDINGS)}.")
    try:
        yield from _jsonl_rows(name, text) if name.lower().endswith(".jsonl") else _csv_rows(name, text)
    except UnicodeDecodeError:
        raise RequestError(f"{quote_name(name)} is not UTF-8 text.") from None


def _match_files(glob: str, policy: FilePolicy, limit: RunLimit | None) -> Iterator[dict[str, object]]:
    roots = Roots.from_policy(policy)
    matches = glob_patterns.match_glob(glob, policy, roots, limit)
    is_empty = True
    for path in matches.paths:
        try:
            with sandbox.open_in_roots(path, roots) as file:
                if file.is_directory or secret_names.matching_pattern(
                    file.rooted_path.parts, policy.allow_secret_names
                ):
                    continue
                item = _file_item(path, file, roots)
        except SandboxError:  # git lists deleted files, and links may lead anywhere
            continue
        is_empty = False
        yield item
    if is_empty:
        raise glob_patterns.no_match_error(glob, policy, roots, limit)


def _file_item(path: RootedPath, file: OpenFile, roots: Roots) -> dict[str, object]:
    status = file.stat_result
    return {"file": roots.display_path(path), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _read_table(name: str, policy: FilePolicy) -> Iterator[dict[str, object]]:
    roots = Roots.from_policy(policy)
    with resolve_path.open_named(name, policy, roots) as file:
        if file.is_directory:
            raise resolve_path.is_directory_error(name, file)
        if file.stat_result.st_size > MAX_TABLE_BYTES:
            raise RequestError(
                f"{quote_name(name)} has {file.stat_result.st_size:,} bytes, more than the {MAX_TABLE_BYTES:,} of a "
                "table. Split it.",
                kind="too_large",
            )
        with _as_text(file) as text:
            yield from read_table(name, text)


def _as_text(file: OpenFile) -> TextIO:
    assert isinstance(file.handle, int)  # noqa: S101 - a file
    return os.fdopen(os.dup(file.handle), encoding="utf-8-sig", newline="")


def _jsonl_rows(name: str, text: TextIO) -> Iterator[dict[str, object]]:
    number = 0
    while line := text.readline(MAX_ROW_CHARS + 1):
        number += 1
        if len(line) > MAX_ROW_CHARS:
            raise RequestError(f"Line {number} of {quote_name(name)} has more than {MAX_ROW_CHARS:,} characters.")
        if not line.strip():
            continue
        try:
            value: object = json.loads(line)
        except (ValueError, RecursionError):
            raise RequestError(f"Line {number} of {quote_name(name)} is not JSON.") from None
        yield {"row": value} if isinstance(value, dict) else {"item": item_text(value)}


def _csv_rows(name: str, text: TextIO) -> Iterator[dict[str, object]]:
    """The rows of a table with a header. A row without any value, such as a spreadsheet leaves behind, is no item."""
    csv.field_size_limit(MAX_ROW_CHARS)
    header = text.readline(MAX_ROW_CHARS)
    delimiter = "\t" if name.lower().endswith(".tsv") else _delimiter_of(header)
    reader = csv.DictReader(chain([header], text), delimiter=delimiter)
    try:
        if repeated := [column for column, count in Counter(reader.fieldnames or ()).items() if column and count > 1]:
            raise RequestError(f"{quote_name(name)} has two columns {quote_name(repeated[0])}.")
        for row in reader:
            if not any(row.values()):
                continue
            extra = cast("dict[object, object]", row).pop(None, None)
            if extra is not None or None in row.values():
                raise RequestError(
                    f"Line {reader.line_num} of {quote_name(name)} has another number of fields than the header."
                )
            yield {"row": dict(row)}
    except csv.Error as error:
        raise RequestError(f"Line {reader.line_num} of {quote_name(name)} is malformed: {error}.") from None


def _delimiter_of(header: str) -> str:
    """The delimiter of a table by its header: a comma, or the semicolon or tab of spreadsheets in other languages."""
    outside_quotes = QUOTED_FIELD.sub("", header)
    return next((each for each in ",;\t" if each in outside_quotes), ",")


def item_text(value: object) -> str:
    """The text of an item: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
