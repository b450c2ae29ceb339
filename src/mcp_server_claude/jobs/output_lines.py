"""Lines of the output of a job: JSON or CSV, one an item, in the order of the items.

JSON is exact. CSV is for spreadsheets: a text that one would run as a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, cast

from mcp_server_claude.csv_cells import escape_formula
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.store.job_items import ItemRecord

CSV_COLUMNS = ("item", "input", "state", "answer", "incomplete", "error", "cost_usd", "call_id")


def output_line(item: ItemRecord) -> dict[str, object]:
    """An item with its answer, as JSON values. `answer` is the text, or the value of a schema; null without one."""
    line: dict[str, object] = {"item": item.seq, "input": _input_value(item), "state": item.state}
    has_text = bool(item.text) or item.state == "done"
    line["answer"] = None if not has_text else json.loads(item.text) if item.is_json else item.text
    if item.note:
        line["incomplete"] = item.note
    if item.error is not None:
        line["error"] = item.error
    if item.usage is not None:
        line["cost_usd"] = item.usage.get("cost_usd")
    if item.call_id:
        line["call_id"] = item.call_id
    return line


def encode_lines(items: Sequence[ItemRecord], *, as_csv: bool, with_header: bool = False) -> bytes:
    """The lines of some items as bytes, each with its end of line."""
    if as_csv:
        return _csv_lines(items, with_header=with_header)
    lines = "".join(f"{json.dumps(output_line(item), ensure_ascii=False)}\n" for item in items)
    return replace_lone_surrogates(lines).encode()


def _csv_lines(items: Sequence[ItemRecord], *, with_header: bool) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if with_header:
        writer.writerow(CSV_COLUMNS)
    for item in items:
        line = output_line(item)
        error = cast("dict[str, object] | None", line.get("error"))
        values = line | {"error": error.get("message") if error else None}
        writer.writerow([_csv_cell(values.get(name)) for name in CSV_COLUMNS])
    return replace_lone_surrogates(text.getvalue()).encode()


def _csv_cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else escape_formula(value)


def _input_value(item: ItemRecord) -> object:
    value = json.loads(item.input)
    return value.get("row", value.get("file", value.get("item")))
