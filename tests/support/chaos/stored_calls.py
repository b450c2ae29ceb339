"""The ledger and the journal held against the simulator's own log, request by request."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

from mcp_server_claude import pricing
from mcp_server_claude.call_types import COMPLETE_STOP_REASONS, Usage
from mcp_server_claude.simulator.billing import INPUT_OUTPUT_CACHE_READ_USD, WEB_SEARCH_USD, bill_requests
from support.server_database import Row, select_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from mcp_server_claude.simulator import LoggedRequest

HALF_A_MICRO_USD = Decimal("0.5") / 1_000_000
MARKER = re.compile(r"Call #(\d{5})\.")
INPUT_COLUMNS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
T = TypeVar("T")


def _head(row: Row) -> str:
    return str(row["prompt_head"])


def call_number(text: str) -> int:
    """Which call a prompt is of."""
    found = MARKER.search(text)
    assert found, text[:80]
    return int(found[1])


def ledger_by_call(data_dir: Path) -> dict[int, list[Row]]:
    """The ledger's lines, by the number of their call."""
    rows = select_rows(
        data_dir,
        "select entry.*, prompt_head from entry left join call on call.id = call_id order by attempt, entry.started_at",
    )
    assert all(row["prompt_head"] is not None for row in rows), "a line without its call"
    return _by_number(rows, _head)


def journal_by_call(data_dir: Path) -> dict[int, Row]:
    """The journal's calls with their texts, by their number."""
    rows = select_rows(data_dir, "select * from call")
    chunks = select_rows(data_dir, "select call_id, off, text from chunk order by call_id, off")
    for row in rows:
        pieces = [chunk for chunk in chunks if chunk["call_id"] == row["id"]]
        row["text"] = "".join(piece["text"] for piece in pieces)
        places = [sum(len(before["text"]) for before in pieces[:n]) for n in range(len(pieces))]
        row["gapless"] = places == [piece["off"] for piece in pieces]
    found = _by_number(rows, _head)
    assert all(len(same) == 1 for same in found.values())
    return {number: same[0] for number, same in found.items()}


def requests_by_call(records: Iterable[LoggedRequest]) -> dict[int, list[LoggedRequest]]:
    """The requests for messages that the simulator saw, by the number of their call."""
    return _by_number(
        [record for record in records if record.path == "/v1/messages"],
        lambda record: str(record.body["messages"][0]["content"]),  # type: ignore[index, call-overload]
    )


def ledger_mismatches(rows: Sequence[Row], records: Sequence[LoggedRequest]) -> list[str]:
    """The differences between the ledger's entries of one call and the upstream's log of it; empty when all is well."""
    wrong: list[str] = []
    by_id = {row["request_id"]: row for row in rows if row["request_id"]}
    unnamed = [row for row in rows if not row["request_id"]]
    if len(by_id) + len(unnamed) != len(rows):
        wrong.append("two lines with one request id")
    if strange := by_id.keys() - {record.request_id for record in records}:
        wrong.append(f"lines of requests that never were: {sorted(strange)}")
    lost = [record for record in records if record.request_id not in by_id]
    if len(lost) > len(unnamed):
        wrong.append(f"{len(lost)} requests without a line, {len(unnamed)} lines without a request")
    if len(unnamed) - len(lost) > sum(map(_abandoned, unnamed)):
        wrong.append(f"{len(unnamed)} lines for {len(lost)} requests")
    wrong += [
        f"a line without an id, {row['end']}, claims {row['output_tokens']} tokens"
        for row in unnamed
        if row["output_tokens"] or row["input_tokens"] or row["cost_micros"]
    ]
    wrong += [
        f"{record.request_id} was answered, and its line has no id"
        for record in lost
        if _usage_was_received(record, unnamed)
    ]
    for record in records:
        if row := by_id.get(record.request_id):
            wrong += row_mismatches(row, record)
    return wrong


def row_mismatches(row: Row, record: LoggedRequest) -> list[str]:
    """What one line of the ledger says otherwise than the upstream's log and bill of its request.

    A line that was open when its process died has exactly the cost of the input if the answer had begun, and no output.
    """
    wrong = [*_entry_mismatches(row, record), *_cost_mismatches(row, record)]
    if row["end"] == "interrupted" and (row["output_tokens"] or row["web_searches"]):
        wrong.append(f"interrupted, with {row['output_tokens']} output tokens")
    return [f"{record.request_id} ({record.end}, {record.fault}): {each}" for each in wrong]


def _usage_was_received(record: LoggedRequest, unnamed: Sequence[Row]) -> bool:
    """Whether the upstream sent a head that no cancel can have crossed."""
    return record.status is not None and not any(map(_abandoned, unnamed))


def _abandoned(row: Row) -> bool:
    """Whether a request was given up from our side, maybe before it left or while its answer was on the way."""
    return row["end"] in {"cancelled", "interrupted"} or row["failure"] == "stream_timeout"


def _entry_mismatches(row: Row, record: LoggedRequest) -> list[str]:
    """One line against one request."""
    if row["state"] != "closed":
        return ["the line is open"]
    wrong = _is_inconsistent(row, model=str(record.body["model"]))  # type: ignore[index, call-overload]
    if record.status != 200 or record.fault in {"html", "empty", "redirect"}:
        return (
            wrong + _is_inconsistent(row, input_tokens=0, output_tokens=0) + _is_unfinished(row, "failed", "cancelled")
        )
    if row["estimated"]:
        record = as_announced(record)
    known = {name: getattr(record, name) for name in INPUT_COLUMNS}
    if row["end"] == "interrupted":
        return wrong + _is_inconsistent(row, estimated=1, **known)
    if row["estimated"]:
        ends = ("cancelled", "failed") if record.end == "complete" else ("cancelled", "failed", "incomplete")
        wrong += ["an estimate of nothing"] if row["output_tokens"] < 1 else []
        return wrong + _is_inconsistent(row, **known) + _is_unfinished(row, *ends)
    if record.stop_reason is None:
        return (
            wrong + _is_inconsistent(row, input_tokens=0, output_tokens=0) + _is_unfinished(row, "failed", "cancelled")
        )
    end = "complete" if record.stop_reason in COMPLETE_STOP_REASONS else "incomplete"
    wrong += _is_inconsistent(row, **known, output_tokens=record.output_tokens, stop_reason=record.stop_reason)
    return wrong + _is_unfinished(row, end, "cancelled")


def _cost_mismatches(row: Row, record: LoggedRequest) -> list[str]:
    """The cost in the ledger against the bill that the simulator computes by code of its own, to the micro-dollar.

    Where the client has not seen the end, the bill is that of the announced input, which it knows exactly, and of the
    output and the searches that the ledger claims.
    """
    if row["state"] != "closed":
        return []
    ledger_usd = Decimal(row["cost_micros"] or 0) / 1_000_000
    seen_end = record.stop_reason is not None and not row["estimated"]
    if not seen_end and not row["estimated"]:
        expected = Decimal(0)  # nothing was announced, or the whole answer was discarded
    elif seen_end:
        expected = _bill(record)
    else:
        per_output = Decimal(INPUT_OUTPUT_CACHE_READ_USD[record.model][1]) / 1_000_000
        without_output = replace(
            as_announced(record), thinking_chars=0, visible_chars=0, web_searches=0, refusal_category="bio"
        )
        expected = (
            _bill(without_output) + row["output_tokens"] * per_output + (row["web_searches"] or 0) * WEB_SEARCH_USD
        )
    if abs(ledger_usd - expected) <= HALF_A_MICRO_USD:
        return []
    return [f"the ledger has ${ledger_usd}, the bill ${expected}"]


def _bill(record: LoggedRequest) -> Decimal:
    return sum((billed.usd or Decimal(0) for billed in bill_requests([record])), Decimal(0))


def as_announced(record: LoggedRequest) -> LoggedRequest:
    """A request with the input that `message_start` counted, and without what only its end could tell."""
    announced = record.announced_input
    if announced is None:
        return record
    known = replace(record, iterations=())
    known.record_input(announced)
    return known


def _is_inconsistent(row: Row, **expected: object) -> list[str]:
    return [f"{name} is {row[name]!r}, not {each!r}" for name, each in expected.items() if row[name] != each]


def _is_unfinished(row: Row, *ends: str) -> list[str]:
    return [] if row["end"] in ends else [f"the end is {row['end']}"]


def true_cost(record: LoggedRequest) -> Decimal:
    """What a request cost in truth, in US dollars."""
    usage = Usage(
        input_tokens=record.input_tokens,
        cache_read_input_tokens=record.cache_read_input_tokens,
        cache_creation_input_tokens=record.cache_creation_input_tokens,
        output_tokens=record.output_tokens if record.input_tokens else 0,
        web_searches=record.web_searches,
    )
    cost = pricing.request_cost(str(record.body["model"]), usage)  # type: ignore[index, call-overload]
    assert cost is not None
    return cost


def _by_number(found: Iterable[T], prompt: Callable[[T], str]) -> dict[int, list[T]]:
    sorted_ones: dict[int, list[T]] = {}
    for each in found:
        sorted_ones.setdefault(call_number(prompt(each)), []).append(each)
    return sorted_ones


def sum_columns(rows: Sequence[Row], names: Sequence[str]) -> Mapping[str, int]:
    return {name: sum(row[name] for row in rows) for name in names}
