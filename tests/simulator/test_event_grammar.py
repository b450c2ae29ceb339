"""The simulator's events against those that the real API has been recorded to send."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.simulator.json_body import as_object, as_text
from support.simulator_connection import HEADERS, message_request, parse_events, read_stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mcp_server_claude.simulator import Simulator
    from mcp_server_claude.simulator.json_body import Object

pytestmark = pytest.mark.anyio
STREAMS = Path(__file__).parents[2].parent / "shared" / "streams"
UNRECORDED_KEYS = {"estimated_tokens", "diagnostics"}
"""A key of a beta, and one that every response has had since 2026-09-23, after the recordings."""


@dataclass
class Grammar:
    follows: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    speaks: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    keys: dict[str, list[frozenset[str]]] = field(default_factory=lambda: defaultdict(list))

    def learn(self, stream: Iterable[Object]) -> None:
        blocks: dict[object, str] = {}
        before = ""
        for event in stream:
            kind = as_text(event["type"])
            if kind == "content_block_start":
                blocks[event["index"]] = as_text(as_object(event["content_block"])["type"])
            if kind == "content_block_delta":
                self.speaks.add((blocks[event["index"]], as_text(as_object(event["delta"])["type"])))
            self.follows.add((before, kind))
            before = kind
            for name, value in shapes(event):
                self.keys[name].append(frozenset(value))


def shapes(event: Object) -> Iterator[tuple[str, Object]]:
    kind = as_text(event["type"])
    yield kind, event
    for name in ("message", "content_block", "delta", "usage"):
        if part := as_object(event.get(name)):
            yield f"{kind}.{name}.{as_text(part.get('type'))}", part
    if usage := as_object(as_object(event.get("message")).get("usage")):
        yield f"{kind}.message.usage", usage
    if citation := as_object(as_object(event.get("delta")).get("citation")):
        yield f"{kind}.citation", citation


@pytest.fixture(scope="module")
def recorded_grammar() -> Grammar:
    index = STREAMS / "INDEX.tsv"
    if not index.exists():
        pytest.skip("the recorded streams (shared/streams beside the checkout) are not here")
    grammar = Grammar()
    with index.open(encoding="utf-8", newline="") as rows:
        names = [row["file"] for row in csv.DictReader(rows, delimiter="\t") if row["kind"].startswith("recorded")]
    for name in names:
        lines = (STREAMS / name).read_text(encoding="utf-8").split("\n")
        grammar.learn([json.loads(line[5:]) for line in lines if line.startswith("data:")])
    assert len(grammar.follows) > 5
    return grammar


REQUESTS: dict[str, Object] = {
    "text": message_request("Why is the sky blue?"),
    "older": message_request("Why is the sky blue?", model="claude-haiku-4-5"),
    "thinking": message_request("Why?", model="claude-haiku-4-5", thinking={"type": "enabled", "budget_tokens": 1024}),
    "hidden thinking": message_request("Why?", model="claude-opus-5-5"),
    "summarized": message_request(
        "Why?", model="claude-opus-5-5", thinking={"type": "adaptive", "display": "summarized"}
    ),
    "tool": message_request(
        "Look. [[sim: stop=tool_use]]", tools=[{"name": "look", "input_schema": {"type": "object"}}]
    ),
    "search": message_request("Search for pelicans", tools=[{"type": "web_search_20260318", "name": "web_search"}]),
    "cut": message_request("Why is the sky blue?", max_tokens=20),
    "stopped": message_request("Why is the sky blue?", stop_sequences=["###"]),
    "refused": message_request("Why? [[sim: stop=refusal]]"),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_events_follow_the_order_of_recorded_streams(
    name: str, simulator: Simulator, recorded_grammar: Grammar
) -> None:
    ours = Grammar()
    ours.learn(parse_events(await read_stream(simulator, REQUESTS[name])))

    assert ours.follows <= recorded_grammar.follows
    assert ours.speaks <= recorded_grammar.speaks


@pytest.mark.parametrize("name", REQUESTS)
async def test_every_event_has_the_keys_of_recorded_ones(
    name: str, simulator: Simulator, recorded_grammar: Grammar
) -> None:
    ours = Grammar()
    beta = HEADERS | {"anthropic-beta": "thinking-token-count-2026-05-13"}
    ours.learn(parse_events(await read_stream(simulator, REQUESTS[name], beta)))

    for shape, emitted in ours.keys.items():
        known = recorded_grammar.keys[shape]
        assert known, f"{shape} has never been recorded"
        for keys in emitted:
            assert keys - UNRECORDED_KEYS <= frozenset(set[str]().union(*known)), shape
            assert keys >= known[0].intersection(*known), shape


async def test_frames_are_named_and_end_with_an_empty_line(simulator: Simulator) -> None:
    frames = (await read_stream(simulator, message_request("Hello there"))).split(b"\n\n")

    assert frames.pop() == b""
    for frame in frames:
        name, data = frame.split(b"\n")
        assert name == b"event: " + json.loads(data.removeprefix(b"data: "))["type"].encode()
    assert b'event: ping\ndata: {"type": "ping"}' in frames
