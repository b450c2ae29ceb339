"""Ask the real API and the simulator the same things, and compare the shape of what they answer.

Asked are messages, counts of tokens, models, files and batches. Compared are the status, `error.type`, the names of
response headers, the order of event types, and the keys of every event; never the text. A key that one side alone has
is printed. The run ends once it has cost `--max-usd`.
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


@dataclass(frozen=True, kw_only=True)
class ContractRequest:
    """One request. `{file_id}` and `{batch_id}` in its path stand for what an earlier request has created.

    `compares_items` is false for a list or an item whose content depends on the account.
    """

    name: str
    method: str = "POST"
    path: str = "/v1/messages"
    body: dict[str, Any] | None = None
    upload: tuple[str, bytes, str] | None = None
    creates: str = ""
    compares_items: bool = True


@dataclass(kw_only=True)
class ResponseShape:
    """The comparable part of a response."""

    status: int
    error_type: str = ""
    headers: set[str] = field(default_factory=set[str])
    events: list[str] = field(default_factory=list[str])
    keys: set[str] = field(default_factory=set[str])
    tokens: int = 0


def contract_requests() -> list[ContractRequest]:
    """About 40 requests, each small, in the order in which they are sent."""
    return [*_message_requests(), *_count_requests(), *_model_requests(), *_file_requests(), *_batch_requests()]


def _message_requests() -> list[ContractRequest]:
    hello = [{"role": "user", "content": "Say hello."}]
    found: dict[str, dict[str, Any]] = {}
    for model in MODELS:
        plain: dict[str, Any] = {"model": model, "max_tokens": MAX_OUTPUT_TOKENS, "messages": hello, "stream": True}
        found |= {
            f"{model}: a stream": plain,
            f"{model}: thinking off": plain | {"thinking": {"type": "disabled"}},
            f"{model}: a forced tool": plain | {"tools": [TOOL], "tool_choice": {"type": "any"}},
            f"{model}: a system message": plain | {"messages": [*hello, {"role": "system", "content": "Be brief."}]},
        }
    small: dict[str, Any] = {"model": MODELS[0], "max_tokens": MAX_OUTPUT_TOKENS, "messages": hello, "stream": True}
    broken = {"type": "thinking", "thinking": "", "signature": "AAAA"}
    answered = [*hello, {"role": "assistant", "content": [broken, {"type": "text", "text": "Hello."}]}, *hello]
    found |= {
        "a message": small | {"stream": False},
        "the highest effort": small | {"output_config": {"effort": "max"}},
        "no max_tokens": {"model": MODELS[0], "messages": hello},
        "an unknown model": small | {"model": "claude-nobody"},
        "no message": small | {"messages": []},
        "a prefilled answer": small | {"messages": [*hello, {"role": "assistant", "content": "Hel"}]},
        "a signature that nobody made": small | {"messages": answered},
        "a format": small | {"output_config": {"format": {"type": "json_schema", "schema": {"type": "string"}}}},
    }
    return [ContractRequest(name=name, body=body) for name, body in found.items()]


def _count_requests() -> list[ContractRequest]:
    path = "/v1/messages/count_tokens"
    plain: dict[str, Any] = {"model": MODELS[0], "messages": [{"role": "user", "content": "Say hello."}]}
    return [
        ContractRequest(name="a count", path=path, body=plain),
        ContractRequest(name="a count with tools", path=path, body=plain | {"tools": [TOOL]}),
        ContractRequest(name="a count for no model", path=path, body=plain | {"model": "claude-nobody"}),
    ]


def _model_requests() -> list[ContractRequest]:
    return [
        ContractRequest(name="the list of models", method="GET", path="/v1/models?limit=3"),
        ContractRequest(name="a model", method="GET", path=f"/v1/models/{MODELS[0]}"),
        ContractRequest(name="a model that does not exist", method="GET", path="/v1/models/claude-nobody"),
    ]


def _file_requests() -> list[ContractRequest]:
    note = ("note.txt", b"Tea is a drink.", "text/plain")
    return [
        ContractRequest(name="an upload", path="/v1/files", upload=note, creates="file_id"),
        ContractRequest(name="a file", method="GET", path="/v1/files/{file_id}"),
        ContractRequest(name="the content of an upload", method="GET", path="/v1/files/{file_id}/content"),
        ContractRequest(name="the list of files", method="GET", path="/v1/files?limit=1", compares_items=False),
        ContractRequest(name="the deletion of a file", method="DELETE", path="/v1/files/{file_id}"),
        ContractRequest(name="a file that was deleted", method="GET", path="/v1/files/{file_id}"),
    ]


def _batch_requests() -> list[ContractRequest]:
    params = {"model": MODELS[1], "max_tokens": 64, "messages": [{"role": "user", "content": "Say hello."}]}
    one = {"requests": [{"custom_id": "one", "params": params}]}
    return [
        ContractRequest(name="a batch without requests", path="/v1/messages/batches", body={"requests": []}),
        ContractRequest(name="a batch", path="/v1/messages/batches", body=one, creates="batch_id"),
        ContractRequest(
            name="the status of a batch", method="GET", path="/v1/messages/batches/{batch_id}", compares_items=False
        ),
        ContractRequest(
            name="the list of batches", method="GET", path="/v1/messages/batches?limit=1", compares_items=False
        ),
        ContractRequest(name="a batch that does not exist", method="GET", path="/v1/messages/batches/msgbatch_0"),
    ]


async def fetch_shape(client: httpx2.AsyncClient, request: ContractRequest, ids: dict[str, str]) -> ResponseShape:
    """Send one request and reduce the response to its shape; `ids` learns the id of what it creates."""
    path = request.path.format_map({"file_id": "file_none", "batch_id": "msgbatch_none"} | ids)
    files = {"file": request.upload} if request.upload else None
    response = await client.request(request.method, path, json=request.body, files=files)
    shape = ResponseShape(
        status=response.status_code, headers={name for name in COMPARED_HEADERS if name in response.headers}
    )
    events: list[dict[str, Any]]
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        events = [json.loads(line[5:]) for line in response.text.split("\n") if line.startswith("data:")]
    else:
        events = [_json_object(response)]
    for event in events:
        kind = str(event.get("type"))
        if kind != "ping" and shape.events[-1:] != [kind]:
            shape.events.append(kind)
        if request.compares_items or shape.status != HTTP_OK:
            shape.keys |= set(_key_paths(event, kind))
        else:
            shape.keys |= {f"{kind}.{name}" for name in event}
        message: dict[str, Any] = event.get("message") or {}
        usage: dict[str, int] = event.get("usage") or message.get("usage") or {}
        shape.tokens = max(shape.tokens, usage.get("input_tokens", 0) + usage.get("output_tokens", 0))
    if request.creates and shape.status == HTTP_OK:
        ids[request.creates] = str(events[0].get("id"))
    if shape.status != HTTP_OK:
        error: dict[str, Any] = events[0].get("error") or {}
        shape.error_type = str(error.get("type"))
    return shape


def _json_object(response: httpx2.Response) -> dict[str, Any]:
    """The body as a JSON object; of any other body only its content type."""
    try:
        body: Any = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        return cast("dict[str, Any]", body)
    return {"type": f"not a JSON object ({response.headers.get('content-type', 'no type')})"}


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
        real_ids, simulated_ids = dict[str, str](), dict[str, str]()
        for request in contract_requests():
            if spent >= max_usd:
                print(f"Stopped after ${spent:.4f}.")
                return different + 1
            name = request.name
            expected = await fetch_shape(real, request, real_ids)
            spent += expected.tokens * OUTPUT_USD_PER_TOKEN
            differences = list_differences(expected, await fetch_shape(simulated, request, simulated_ids))
            different += bool(differences)
            print(f"{'different' if differences else 'same'}: {name}")
            for difference in differences:
                print(f"    {difference}")
    print(f"{different} of {len(contract_requests())} requests differ; at most ${spent:.4f} was spent.")
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
