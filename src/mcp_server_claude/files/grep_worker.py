"""Runs as a process of its own: matches a regular expression against lines, and may be killed at any time.

Python's `re` can take exponential time, holds the interpreter's lock while it does, and cannot be interrupted; so what
a model writes never runs in the server. In: JSON lines, first the question, then each file. Out: JSON lines, flushed
one by one, so that what was found before a kill is there. It opens nothing.
"""

from __future__ import annotations

import json
import re
import sys


def main() -> None:
    question = json.loads(sys.stdin.readline())
    try:
        pattern: re.Pattern[str] = re.compile(question["pattern"])
    except (re.error, OverflowError, RecursionError, MemoryError) as error:
        _write_json_line({"error": str(error)[:200]})
        return
    left = question["limit"]
    for raw in sys.stdin:
        file = json.loads(raw)
        for number, line in enumerate(_split_lines(file["text"]), 1):
            match = pattern.search(line[: question["longest"]])
            if match is None:
                continue
            if left == 0:
                _write_json_line({"more": True})
                return
            left -= 1
            start = max(0, match.start() - question["width"] // 3)
            _write_json_line({"path": file["path"], "line": number, "text": line[start : start + question["width"]]})
    _write_json_line({"done": True})


def _split_lines(text: str) -> list[str]:
    """Lines as editors number them; `str.splitlines` knows more ends."""
    rows = re.split(r"\r\n|\n|\r", text)
    return rows if rows[-1] else rows[:-1]


def _write_json_line(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
