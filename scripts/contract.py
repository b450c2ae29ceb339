"""Ask the real Messages API and the simulator the same things, and compare the shape of what they answer.

Compared are the status, `error.type`, the names of response headers, the order of event types, and the keys of every
event; never the text. A key that one side alone has is printed. The run ends once it has cost `--max-usd`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any, cast

import httpx2

from mcp_server_claude.simulator import Pace, Simulator

API_URL = "https://api.anthropic.com"
VERSION = "2026-10-21"
TIMEOUT_S = 120.0
HTTP_OK = 200
OUTPUT_USD_PER_TOKEN = 50 / 1_000_000
"""The dearest output of any model: an upper bound for every token."""
MAX_OUTPUT_TOKENS = 1024
"""Enough for thinking and for text after it, of which both sides must show the events."""
MODELS = ("claude-sonnet-5-5", "claude-haiku-5-5", "claude-opus-5-5", "claude-sonnet-4-6", "claude-haiku-4-5")
COMPARED_HEADERS = ("request-id", "anthropic-organization-id", "anthropic-ratelimit-requests-limit", "retry-after")
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


@dataclass(kw_only=True)
class ResponseShape:
    """The comparable part of a response."""

    status: int
    error_type: str = ""
    headers: set[str] = field(default_factory=set[str])
    events: list[str] = field(default_factory=list[str])
    keys: set[str] = field(default_factory=set[str])
    tokens: int = 0


def request_bodies() -> dict[str, dict[str, Any]]:
    """The requests by name: about 40, each small."""
    hello = [{"role": "user", "content": "Say hello."}]
    found: dict[str, dict[str, Any]] = {}
    for model in MODELS:
        plain: dict[str, Any] = {"model": model, "max_tokens": MAX_OUTPUT_TOKENS, "messages": hello, "stream": True}
        found |= {
            f"{model}: a stream": plain,
            f"{model}: a message": plain | {"stream": False},
            f"{model}: thinking off": plain | {"thinking": {"type": "disabled"}},
            f"{model}: adaptive thinking": plain | {"thinking": {"type": "adaptive"}},
            f"{model}: the highest effort": plain | {"output_config": {"effort": "max"}},
            f"{model}: a forced tool": plain | {"tools": [TOOL], "tool_choice": {"type": "any"}},
            f"{model}: a system message": plain | {"messages": [*hello, {"role": "system", "content": "Be brief."}]},
        }
    small: dict[str, Any] = {"model": MODELS[0], "max_tokens": MAX_OUTPUT_TOKENS, "messages": hello, "stream": True}
    broken = {"type": "thinking", "thinking": "", "signature": "AAAA"}
    answered = [*hello, {"role": "assistant", "content": [broken, {"type": "text", "text": "Hello."}]}, *hello]
    return found | {
        "no max_tokens": {"model": MODELS[0], "messages": hello},
        "an unknown model": small | {"model": "claude-nobody"},
        "no message": small | {"messages": []},
        "a prefilled answer": small | {"messages": [*hello, {"role": "assistant", "content": "Hel"}]},
        "a signature that nobody made": small | {"messages": answered},
        "a format": small | {"output_config": {"format": {"type": "json_schema", "schema": {"type": "string"}}}},
    }


async def fetch_shape(client: httpx2.AsyncClient, body: dict[str, Any]) -> ResponseShape:
    """Send one request and reduce the response to its shape."""
    response = await client.post("/v1/messages", json=body)
    shape = ResponseShape(
        status=response.status_code, headers={name for name in COMPARED_HEADERS if name in response.headers}
    )
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        events: list[Any] = [json.loads(line[5:]) for line in response.text.split("\n") if line.startswith("data:")]
    else:
        events = [response.json()]
    for event in events:
        kind = str(event.get("type"))
        if kind != "ping" and shape.events[-1:] != [kind]:
            shape.events.append(kind)
        shape.keys |= set(_key_paths(event, kind))
        usage: dict[str, int] = event.get("usage") or event.get("message", {}).get("usage") or {}
        shape.tokens = max(shape.tokens, usage.get("input_tokens", 0) + usage.get("output_tokens", 0))
    if shape.status != HTTP_OK:
        shape.error_type = str(events[0].get("error", {}).get("type"))
    return shape


def _key_paths(value: Any, path: str) -> list[str]:
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        children = [(f"{path}.{key}", item) for key, item in cast("dict[str, Any]", value).items()]
    elif isinstance(value, list):
        children = [(f"{path}[]", item) for item in cast("list[Any]", value)]
    return [found for name, item in children for found in (name, *_key_paths(item, name))]


def list_differences(expected: ResponseShape, simulated: ResponseShape) -> list[str]:
    """The differences of two shapes, one sentence each."""
    found: list[str] = []
    for name in ("status", "error_type", "events"):
        ours, theirs = getattr(simulated, name), getattr(expected, name)
        if ours != theirs:
            found.append(f"{name}: the API has {theirs}, the simulator {ours}")
    for name in ("headers", "keys"):
        ours, theirs = getattr(simulated, name), getattr(expected, name)
        found += [f"{name}: only the API has {key}" for key in sorted(theirs - ours)]
        found += [f"{name}: only the simulator has {key}" for key in sorted(ours - theirs)]
    return found


async def compare(url: str, key: str, max_usd: float) -> int:
    """Compare every request and print the differences; the number of requests that differ."""
    spent, different = 0.0, 0
    headers = {"x-api-key": key, "anthropic-version": VERSION}
    async with (
        Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), enforce_thinking_binding=True) as simulator,
        httpx2.AsyncClient(base_url=url or simulator.url, headers=headers, timeout=TIMEOUT_S) as real,
        httpx2.AsyncClient(base_url=simulator.url, headers=headers, timeout=TIMEOUT_S) as simulated,
    ):
        for name, body in request_bodies().items():
            if spent >= max_usd:
                print(f"Stopped after ${spent:.4f}.")
                return different + 1
            expected = await fetch_shape(real, body)
            spent += expected.tokens * OUTPUT_USD_PER_TOKEN
            differences = list_differences(expected, await fetch_shape(simulated, body))
            different += bool(differences)
            print(f"{'different' if differences else 'same'}: {name}")
            for difference in differences:
                print(f"    {difference}")
    print(f"{different} requests differ; at most ${spent:.4f} was spent.")
    return different


def main() -> int:
    """Run the comparison; 0 when nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-usd", type=float, default=1.0)
    parser.add_argument("--url", default="", help="another API to compare with, instead of Anthropic's")
    arguments = parser.parse_args()
    key = os.environ.get("ANTHROPIC_API_KEY", "")
    url = arguments.url or (API_URL if key else "")
    if not url:
        print("Skipped: ANTHROPIC_API_KEY is not set. The simulator is compared with itself.")
    return 1 if asyncio.run(compare(url, key or "none", arguments.max_usd)) else 0


if __name__ == "__main__":
    sys.exit(main())
