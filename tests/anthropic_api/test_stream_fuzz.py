"""Mutated streams: every call ends in one of the four outcomes, and a complete answer is the text that was sent.

`scripts/test --all` reads `FUZZ_MUTATIONS` streams (5,000 unless it is set), `scripts/test` 150. A failure names the
number of its mutation; the same number makes the same mutation.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import pytest

from support.chaos.call_results import classify_result
from support.mcp_session import FAILURE_META, connect, text_blocks
from support.recorded_streams import message_events, recorded_stream, sse_bytes, stream_names
from support.scripted_upstream import scripted_upstream
from support.stream_mutations import mutate, read_text

if TYPE_CHECKING:
    from pathlib import Path

    from mcp.types import CallToolResult

pytestmark = pytest.mark.anyio

QUICK_MUTATIONS = 150
MANY_MUTATIONS = int(os.environ.get("FUZZ_MUTATIONS", "5000"))
SPOKEN = (
    sse_bytes(*message_events("Übung ", "macht ", "den\u2028 Meister. 🙂\n", "data: none\n\n", "\ttail")),
    sse_bytes(*message_events("a" * 3000, "\ud83d\ude42", "b"), escaped=True),
    sse_bytes(*message_events("one", "two"), end="\r\n"),
)
SOURCES = "\n\nSources:"
"""The list of sources below an answer is the server's own."""


def _streams() -> list[bytes]:
    return [*SPOKEN, *(recorded_stream(name) for name in stream_names() if name != "(none)")]


@dataclass
class Findings:
    """Bugs, and complete answers with another text than was sent, each with its mutation's number."""

    bugs: list[str] = field(default_factory=list[str])
    false_texts: list[str] = field(default_factory=list[str])

    def judge(self, number: int, sent: bytes, result: CallToolResult) -> None:
        outcome = classify_result(result)
        if outcome == "failed" and dict(result.meta or {})[FAILURE_META]["kind"] == "internal":
            self.bugs.append(f"mutation {number}: {text_blocks(result)[0][:300]}")
        text = text_blocks(result)[0].partition(SOURCES)[0]
        expected = read_text(sent).partition(SOURCES)[0]
        # A break of paragraphs between the text before a server tool and the text after it is the server's own, too.
        if outcome == "complete" and text.replace("\n\n", "") != expected.replace("\n\n", ""):
            self.false_texts.append(f"mutation {number}: {text[-80:]!r} is not {expected[-80:]!r}")


async def _fuzz(data_dir: Path, first: int, count: int) -> Findings:
    """Answer `count` calls with a mutated stream each, and judge every result."""
    streams, findings = _streams(), Findings()
    async with (
        scripted_upstream(b"") as upstream,
        connect("memory", "auto", data_dir, base_url=upstream.url, retry_for_s=0, footer=False) as session,
    ):
        for number in range(first, first + count):
            random = Random(number)
            sent = mutate(random, random.choice(streams))
            upstream.bodies[:] = [sent]
            findings.judge(number, sent, await session.ask("Hello"))
    return findings


@pytest.mark.parametrize("count", [QUICK_MUTATIONS, pytest.param(MANY_MUTATIONS, marks=pytest.mark.slow)])
async def test_a_mutated_stream_ends_in_one_of_four_outcomes(tmp_path: Path, count: int) -> None:
    assert not (await _fuzz(tmp_path / "data", 0, count)).bugs


@pytest.mark.parametrize("count", [QUICK_MUTATIONS, pytest.param(MANY_MUTATIONS, marks=pytest.mark.slow)])
async def test_a_complete_answer_is_the_text_that_was_sent(tmp_path: Path, count: int) -> None:
    assert not (await _fuzz(tmp_path / "data", 0, count)).false_texts
