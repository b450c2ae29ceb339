"""Many calls at once through a real MCP client, and the judgement on each of them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude.call_types import COMPLETE_STOP_REASONS
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from support.chaos import stored_calls
from support.mcp_session import FAILURE_META, USAGE_META, ProgressUpdate, text_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from mcp.types import CallToolResult

    from mcp_server_claude.simulator import LoggedRequest, Simulator
    from support.chaos.call_plans import CallPlan
    from support.chaos.stored_calls import Row
    from support.mcp_session import McpSession

OUTCOMES = ("complete", "incomplete", "failed", "refused")
UNLIMITED_TOKENS = 10_000_000
CALL_TIMEOUT_S = 240.0
TOKEN_COLUMNS = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
    "thinking_tokens",
)


@dataclass
class CallResult:
    """What became of a call: its result (None when its caller cancelled it), and its progress."""

    plan: CallPlan
    result: CallToolResult | None = None
    updates: list[ProgressUpdate] = field(default_factory=list[ProgressUpdate])
    ended_at: float = float("inf")
    ran_while_stalled: bool = False

    @property
    def message(self) -> str:
        return "".join(update.message or "" for update in self.updates)


async def ask_all(session: McpSession, plans: Iterable[CallPlan], *, at_once: int) -> list[CallResult]:
    """Ask everything in a session, so many at a time. An exception of the client's is the test's failure."""
    waiting = list(reversed(list(plans)))
    outcomes: list[CallResult] = []

    async def caller() -> None:
        while waiting:
            outcome = CallResult(waiting.pop())
            outcomes.append(outcome)
            plan = outcome.plan
            with anyio.fail_after(CALL_TIMEOUT_S), anyio.move_on_after(plan.cancel_after_s):
                outcome.result = await session.ask(plan.prompt, updates=outcome.updates, **plan.arguments)
            outcome.ended_at = time.monotonic()

    async with anyio.create_task_group() as watch:
        watch.start_soon(mark_stalled_calls, outcomes)
        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(caller)
        watch.cancel_scope.cancel()
    return outcomes


async def mark_stalled_calls(outcomes: Sequence[CallResult]) -> None:
    """Mark those that ran while this machine stood still.

    Silences of a second or two end streams and progress here, and such a machine makes them by itself.
    """
    late = 0.0
    while True:
        began = time.monotonic()
        await anyio.sleep(0.05)
        late = max(0.0, late - 0.025) + time.monotonic() - began - 0.05
        if late > 0.2:
            for outcome in outcomes:
                outcome.ran_while_stalled = outcome.ran_while_stalled or outcome.ended_at > began


async def poll_until(condition: Callable[[], bool], interval_s: float = 0.01) -> None:
    """Wait for something that is not announced."""
    while not condition():  # noqa: ASYNC110 - files, tasks and other processes set no event
        await anyio.sleep(interval_s)


def classify(outcome: CallResult) -> str:
    """Classify a call that was not cancelled."""
    assert outcome.result is not None
    return classify_result(outcome.result)


def classify_result(result: CallToolResult) -> str:
    """Return the one of the four outcomes that a result is.

    Raises:
        AssertionError: It is none, or shows signs of two.
    """
    blocks, meta = text_blocks(result), dict(result.meta or {})
    assert blocks
    assert result.structured_content is None
    if result.is_error:
        assert FAILURE_META in meta, "a failure without its class"
        assert len(blocks) == 1
        assert blocks[0].strip()
        attempts = meta[USAGE_META]["attempts"] if USAGE_META in meta else 0
        assert not meta.get(USAGE_META, {}).get("complete")
        return "failed" if attempts else "refused"
    usage = meta[USAGE_META]
    assert FAILURE_META not in meta
    assert blocks[0].strip()
    assert usage["complete"] == (usage["stop_reason"] in COMPLETE_STOP_REASONS)
    assert usage["complete"] != blocks[-1].startswith("INCOMPLETE: "), blocks[-1]
    assert usage["attempts"] > 0
    return "complete" if usage["complete"] else "incomplete"


def find_violations(outcomes: Sequence[CallResult], upstream: Simulator, data_dir: Path) -> list[str]:
    """Every promise that a call of a round has broken, each with its call; empty when all were kept."""
    requests_by_call = stored_calls.requests_by_call(upstream.requests)
    lines, journal = stored_calls.ledger_by_call(data_dir), stored_calls.journal_by_call(data_dir)
    wrong: list[str] = []
    for outcome in outcomes:
        number = outcome.plan.number
        records, rows = requests_by_call.get(number, []), lines.get(number, [])
        found = [
            *_result_violations(outcome, upstream, records, rows),
            *stored_calls.ledger_mismatches(rows, records),
            *_usage_violations(outcome, rows),
            *_journal_violations(outcome, journal.get(number), records, upstream),
        ]
        wrong += [f"{outcome.plan}: {each}" for each in found]
    return wrong


def full_upstream_text(outcome: CallResult, upstream: Simulator, records: Sequence[LoggedRequest]) -> str:
    """The complete answer of the upstream."""
    if outcome.plan.text or not records:
        return replace_lone_surrogates(outcome.plan.text)
    body = json.loads(json.dumps(records[0].body)) | {"max_tokens": UNLIMITED_TOKENS}
    return replace_lone_surrogates(upstream.answer_to(body))


def _result_violations(
    outcome: CallResult, upstream: Simulator, records: Sequence[LoggedRequest], rows: Sequence[Row]
) -> list[str]:
    """The result against the complete answer of the upstream, and against the progress."""
    upstream_text = full_upstream_text(outcome, upstream, records)
    steps = [update.progress for update in outcome.updates]
    wrong = ["progress is not strictly increasing"] if steps != sorted(set(steps)) else []
    if outcome.result is None:
        received, _ = _without_strays(_without_sources(outcome.message), upstream_text, records)
        return wrong + (
            [] if upstream_text.startswith(received) else [_first_difference("its progress", received, upstream_text)]
        )
    try:
        end = classify(outcome)
    except AssertionError as error:
        return [*wrong, f"none of the four ways: {error} {outcome.result}"[:600]]
    expected = outcome.plan.expected
    if expected not in {"any", end} and not outcome.ran_while_stalled:
        wrong.append(f"{end}, not {expected}: {text_blocks(outcome.result)[-1][:300]}")
    if end == "refused" and records:
        wrong.append(f"refused, and yet {len(records)} requests were sent")
    if end in {"complete", "incomplete"}:
        text = text_blocks(outcome.result)[0]
        if outcome.message != text and not (outcome.ran_while_stalled and text.startswith(outcome.message)):
            wrong.append(_first_difference("its progress", outcome.message, text))
        own = _without_sources(text) if "pause_turn" in outcome.plan.label else text
        own, missing = _without_strays(own, upstream_text, records)
        read = {row["request_id"] for row in rows if row["failure"] != "stream_timeout"}
        excused = sum(_is_stray(each) and (each.is_continuation or each.request_id not in read) for each in records)
        if end == "complete" and missing > excused:
            ends = [(each.request_id, each.end, each.stop_reason) for each in records]
            failures = [row["failure"] for row in rows]
            wrong.append(f"{missing} texts for blocks that were never started are lost: {ends}, {failures}")
        if not (own == upstream_text if end == "complete" else upstream_text.startswith(own)):
            wrong.append(_first_difference(end, own, upstream_text))
    return wrong


def _without_sources(text: str) -> str:
    """An answer without the list that is ours: what a search that it cites has found."""
    return text.partition("\n\nSources:\n\n1. [Field notes: ")[0]


def _without_strays(text: str, upstream_text: str, records: Sequence[LoggedRequest]) -> tuple[str, int]:
    """An answer without the text for blocks that were never started, and how many such pieces it lacks.

    The simulator sends one `?` for each `badindex` and does not count it as text; any other difference stays. The piece
    is kept in a fresh answer and in a paused turn, and refused in a continuation. On a busy machine a
    request can time out while its answer lies unread, its head too, and is then sent again.
    """
    strays = sum(map(_is_stray, records))
    place = 0
    while strays:
        while place < min(len(text), len(upstream_text)) and text[place] == upstream_text[place]:
            place += 1
        if text[place : place + 1] != "?":
            break
        text = text[:place] + text[place + 1 :]
        strays -= 1
    return text, strays


def _is_stray(record: LoggedRequest) -> bool:
    return record.end == "fault:badindex"


def _usage_violations(outcome: CallResult, rows: Sequence[Row]) -> list[str]:
    """The account in `_meta` against the ledger."""
    usage = dict((outcome.result.meta or {}).get(USAGE_META, {})) if outcome.result else {}
    if not usage:
        return [f"no account, and {len(rows)} lines"] if outcome.result and rows else []
    wrong = [
        f"the account says {name} {usage[name]}, the ledger {total}"
        for name, total in stored_calls.sum_columns(rows, TOKEN_COLUMNS).items()
        if usage[name] != total
    ]
    again = sum(row["stop_reason"] is None for row in rows[:-1])  # what came after a pause is no retry
    if usage["attempts"] != len(rows) or usage["retries"] != again:
        wrong.append(f"{usage['attempts']} attempts, {usage['retries']} retries, {len(rows)} lines")
    if usage["request_ids"] != [row["request_id"] for row in rows if row["request_id"]]:
        wrong.append("the account's request ids are not those of the ledger")
    if bool(usage["estimated"]) != any(row["estimated"] for row in rows):
        wrong.append(f"the account says estimated {usage['estimated']}")
    if {row["call_id"] for row in rows} - {usage["call_id"]}:
        wrong.append("lines of another call")
    return wrong


def _journal_violations(
    outcome: CallResult, call: Row | None, records: Sequence[LoggedRequest], upstream: Simulator
) -> list[str]:
    """The journal against what was delivered."""
    if call is None:
        return [f"{len(records)} requests, and nothing in the journal"] if records else []
    wrong: list[str] = []
    if call["state"] != "closed":
        wrong.append("the journal's record is open")
    if not call["gapless"] or call["chars"] != len(call["text"]):
        wrong.append(f"the journal has a gap: {call['chars']} characters, {len(call['text'])} there")
    if outcome.result is None:
        if call["end"] == "cancelled" and not call["text"].startswith(outcome.message):
            wrong.append(_first_difference("the journal of the cancelled call", call["text"], outcome.message))
        upstream_text = full_upstream_text(outcome, upstream, records)
        kept, _ = _without_strays(_without_sources(call["text"]), upstream_text, records)
        return (
            wrong if upstream_text.startswith(kept) else [*wrong, _first_difference("the journal", kept, upstream_text)]
        )
    end = "failed" if outcome.result.is_error else classify(outcome)
    if call["end"] != end:
        wrong.append(f"the journal calls it {call['end']}")
    if end != "failed" and call["text"] != text_blocks(outcome.result)[0]:
        wrong.append(_first_difference("the journal", call["text"], text_blocks(outcome.result)[0]))
    if json.loads(call["usage"]) != dict((outcome.result.meta or {})[USAGE_META]):
        wrong.append("the journal has another account")
    return wrong


def _first_difference(what: str, one: str, other: str) -> str:
    """Where two texts part."""
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    around = slice(max(0, same - 30), same + 50)
    return f"{what}: differs at {same} ({len(one)} and {len(other)} long): {one[around]!r} is not {other[around]!r}"
