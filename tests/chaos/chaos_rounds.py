"""Many calls at once through a real MCP client, and the judgement on each of them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import chaos_books as books

from mcp_server_claude.call_types import COMPLETE
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from support.desk import FAILURE, USAGE, Told, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from chaos_books import Row
    from chaos_plans import Plan
    from mcp.types import CallToolResult

    from mcp_server_claude.simulator import Record, Simulator
    from support.desk import Desk

ENDS = ("complete", "incomplete", "failed", "refused")
NO_LIMIT = 10_000_000
LONGEST_S = 60.0
SUMS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens", "thinking_tokens")


@dataclass
class Outcome:
    """What became of a call: its result (None when its caller cancelled it), and what was told on the way."""

    plan: Plan
    result: CallToolResult | None = None
    told: list[Told] = field(default_factory=list[Told])
    ended_at: float = float("inf")
    hurried: bool = False

    @property
    def message(self) -> str:
        return "".join(told.message or "" for told in self.told)


async def ask_all(desk: Desk, plans: Iterable[Plan], *, at_once: int) -> list[Outcome]:
    """Have a desk ask everything, so many at a time. An exception of the client's is the test's failure."""
    waiting = list(reversed(list(plans)))
    outcomes: list[Outcome] = []

    async def caller() -> None:
        while waiting:
            outcome = Outcome(waiting.pop())
            outcomes.append(outcome)
            plan = outcome.plan
            with anyio.fail_after(LONGEST_S), anyio.move_on_after(plan.cancel_after_s):
                outcome.result = await desk.ask(plan.prompt, told=outcome.told, **plan.arguments)
            outcome.ended_at = time.monotonic()

    async with anyio.create_task_group() as watch:
        watch.start_soon(feel_the_pulse, outcomes)
        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(caller)
        watch.cancel_scope.cancel()
    return outcomes


async def feel_the_pulse(outcomes: Sequence[Outcome]) -> None:
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
                outcome.hurried = outcome.hurried or outcome.ended_at > began


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that nobody tells."""
    while not true():  # noqa: ASYNC110 - files, tasks and other processes set no event
        await anyio.sleep(0.01)


def end_of(outcome: Outcome) -> str:
    """Which of the four ways a result is; it must be exactly one.

    Raises:
        AssertionError: It is none, or tells of two.
    """
    result = outcome.result
    assert result is not None
    blocks, meta = texts(result), dict(result.meta or {})
    assert blocks
    assert result.structured_content is None
    if result.is_error:
        assert FAILURE in meta, "a failure without its class"
        assert len(blocks) == 1
        assert blocks[0].strip()
        attempts = meta[USAGE]["attempts"] if USAGE in meta else 0
        assert not meta.get(USAGE, {}).get("complete")
        return "failed" if attempts else "refused"
    usage = meta[USAGE]
    assert FAILURE not in meta
    assert blocks[0].strip()
    assert usage["complete"] == (usage["stop_reason"] in COMPLETE)
    assert usage["complete"] != blocks[-1].startswith("INCOMPLETE: "), blocks[-1]
    assert usage["attempts"] > 0
    return "complete" if usage["complete"] else "incomplete"


def judge(outcomes: Sequence[Outcome], upstream: Simulator, data_dir: Path) -> list[str]:
    """Every promise that a call of a round has broken, each with its call; empty when all were kept."""
    asked = books.asked(upstream.requests)
    lines, journal = books.entries(data_dir), books.calls(data_dir)
    wrong: list[str] = []
    for outcome in outcomes:
        number = outcome.plan.number
        records, rows = asked.get(number, []), lines.get(number, [])
        found = [
            *_answer(outcome, upstream, records),
            *books.wrong_lines(rows, records),
            *_account(outcome, rows),
            *_journal(outcome, journal.get(number), records, upstream),
        ]
        wrong += [f"{outcome.plan}: {each}" for each in found]
    return wrong


def whole(outcome: Outcome, upstream: Simulator, records: Sequence[Record]) -> str:
    """All that the upstream would have said."""
    if outcome.plan.text or not records:
        return replace_lone_surrogates(outcome.plan.text)
    body = json.loads(json.dumps(records[0].body)) | {"max_tokens": NO_LIMIT}
    return replace_lone_surrogates(upstream.answer_to(body))


def _answer(outcome: Outcome, upstream: Simulator, records: Sequence[Record]) -> list[str]:
    """The result against what the upstream would have said, and against the progress."""
    said = whole(outcome, upstream, records)
    steps = [told.progress for told in outcome.told]
    wrong = ["progress is not strictly increasing"] if steps != sorted(set(steps)) else []
    if outcome.result is None:
        heard = _without_sources(outcome.message)
        return wrong + ([] if said.startswith(heard) else [_differs("its progress", heard, said)])
    try:
        end = end_of(outcome)
    except AssertionError as error:
        return [*wrong, f"none of the four ways: {error} {outcome.result}"[:600]]
    expected = outcome.plan.expected
    if expected not in {"any", end} and not outcome.hurried:
        wrong.append(f"{end}, not {expected}: {texts(outcome.result)[-1][:300]}")
    if end == "refused" and records:
        wrong.append(f"refused, and yet {len(records)} requests were sent")
    if end in {"complete", "incomplete"}:
        text = texts(outcome.result)[0]
        if outcome.message != text and not (outcome.hurried and text.startswith(outcome.message)):
            wrong.append(_differs("its progress", outcome.message, text))
        own = _without_sources(text) if "pause_turn" in outcome.plan.why else text
        if not (own == said if end == "complete" else said.startswith(own)):
            wrong.append(_differs(end, own, said))
    return wrong


def _without_sources(text: str) -> str:
    """An answer without the list that is ours: what a search that it cites has found."""
    return text.partition("\n\nSources:\n\n1. [Field notes: ")[0]


def _account(outcome: Outcome, rows: Sequence[Row]) -> list[str]:
    """The account in `_meta` against the ledger."""
    usage = dict((outcome.result.meta or {}).get(USAGE, {})) if outcome.result else {}
    if not usage:
        return [f"no account, and {len(rows)} lines"] if outcome.result and rows else []
    wrong = [
        f"the account says {name} {usage[name]}, the ledger {total}"
        for name, total in books.summed(rows, SUMS).items()
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


def _journal(outcome: Outcome, call: Row | None, records: Sequence[Record], upstream: Simulator) -> list[str]:
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
            wrong.append(_differs("the journal of the cancelled call", call["text"], outcome.message))
        said, kept = whole(outcome, upstream, records), _without_sources(call["text"])
        return wrong if said.startswith(kept) else [*wrong, _differs("the journal", kept, said)]
    end = "failed" if outcome.result.is_error else end_of(outcome)
    if call["end"] != end:
        wrong.append(f"the journal calls it {call['end']}")
    if end != "failed" and call["text"] != texts(outcome.result)[0]:
        wrong.append(_differs("the journal", call["text"], texts(outcome.result)[0]))
    if json.loads(call["usage"]) != dict((outcome.result.meta or {})[USAGE]):
        wrong.append("the journal has another account")
    return wrong


def _differs(what: str, one: str, other: str) -> str:
    """Where two texts part."""
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    around = slice(max(0, same - 30), same + 50)
    return f"{what}: differs at {same} ({len(one)} and {len(other)} long): {one[around]!r} is not {other[around]!r}"
