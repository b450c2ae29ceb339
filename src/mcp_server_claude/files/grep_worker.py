"""Matches a regular expression against lines, in a process of its own that may be killed at any time.

Python's `re` can take exponential time, holds the interpreter's lock while it does, and cannot be interrupted, so
expressions of a model never run in the server. Input: JSON lines, first the query, then each file. Output: JSON lines,
flushed one by one, so that results before a kill are kept. Opens no files.
"""

from __future__ import annotations

import json
import re
import sys


def main() -> None:
    query = json.loads(sys.stdin.readline())
    try:
        pattern: re.Pattern[str] = re.compile(query["pattern"])
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        _write_json_line({"error": str(error)[:200]})
        return
    matches_left, width = query["max_matches"], query["max_match_chars"]
    for raw in sys.stdin:
        file = json.loads(raw)
        for number, line in enumerate(_split_lines(file["text"]), 1):
            match = pattern.search(line[: query["max_line_chars"]])
            if match is None:
                continue
            if matches_left == 0:
                _write_json_line({"more": True})
                return
            matches_left -= 1
            start = max(0, match.start() - width // 3)
            _write_json_line({"path": file["path"], "line": number, "text": line[start : start + width]})
    _write_json_line({"done": True})


def _split_lines(text: str) -> list[str]:
    """The lines as editors number them, as `TextFile.lines` does; this process imports nothing of the package."""
    rows = re.split(r"\r\n|\n|\r", text)
    return rows if rows[-1] else rows[:-1]


def _write_json_line(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
