"""A Messages API for other people's agents: its model calls the tools that a prompt lists, all at once, and then ends.

The simulator answers what our server asks; it cannot say which arguments an agent's model passes.
"""

from __future__ import annotations

import json
import re
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

Json = dict[str, Any]
CALLS = re.compile(r"\[\[calls:([\w=-]+)\]\]")


def prompt_with_calls(*calls: tuple[str, Json]) -> str:
    """A prompt that has the model call these tools with these arguments."""
    return f"[[calls:{urlsafe_b64encode(json.dumps(calls).encode()).decode()}]]"


@dataclass
class AgentApi:
    """The requests that came, and what they hold."""

    url: str = ""
    requests: list[Json] = field(default_factory=list[Json])

    def tool_results(self) -> dict[str, Json]:
        """The results that the model has seen, by the id of the call: `call_0` is the first."""
        return {block["tool_use_id"]: block for block in self._blocks() if block["type"] == "tool_result"}

    def texts(self) -> list[str]:
        """The texts that the model has seen."""
        return [block["text"] for block in self._blocks() if block["type"] == "text"]

    def tool_names(self) -> set[str]:
        """The tools that were offered in full, and those whose schema an agent loads later."""
        offered = {tool["name"] for request in self.requests for tool in request.get("tools", [])}
        return offered | set(re.findall(r"mcp__\w+", json.dumps(self.requests)))

    def _blocks(self) -> Iterator[Json]:
        for request in self.requests:
            for message in request["messages"]:
                content = message["content"]
                yield from [{"type": "text", "text": content}] if isinstance(content, str) else content


def result_texts(result: Json) -> list[str]:
    """The texts of a tool result."""
    content = result["content"]
    return [content] if isinstance(content, str) else [block["text"] for block in content if block["type"] == "text"]


def _response_blocks(request: Json) -> list[Json]:
    messages = json.dumps(request["messages"])
    calls = CALLS.findall(messages)
    if not calls or '"tool_result"' in messages or not request.get("tools"):
        return [{"type": "text", "text": "Done."}]
    listed = cast("list[tuple[str, Json]]", json.loads(urlsafe_b64decode(calls[-1])))
    return [
        {"type": "tool_use", "id": f"call_{number}", "name": name, "input": arguments}
        for number, (name, arguments) in enumerate(listed)
    ]


def _message_events(model: str, blocks: Sequence[Json]) -> Iterator[Json]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    stop_reason = "tool_use" if blocks[0]["type"] == "tool_use" else "end_turn"
    message: Json = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "usage": usage,
    }
    yield {"type": "message_start", "message": message | {"stop_reason": None, "stop_sequence": None}}
    for index, block in enumerate(blocks):
        if block["type"] == "tool_use":
            start: Json = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        else:
            start = {**block, "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        yield {"type": "content_block_start", "index": index, "content_block": start}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason, "stop_sequence": None},
        "usage": {"output_tokens": 1},
    }
    yield {"type": "message_stop"}


def _handler(api: AgentApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request: Json = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if "count_tokens" in self.path:
                self._respond("application/json", json.dumps({"input_tokens": len(json.dumps(request)) // 8}))
                return
            api.requests.append(request)
            events = _message_events(request["model"], _response_blocks(request))
            stream = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
            self._respond("text/event-stream", stream)

        def do_GET(self) -> None:
            self._respond("application/json", json.dumps({"data": [], "has_more": False}))

        def do_HEAD(self) -> None:
            self._respond("application/json", "")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature of http.server
            """Write nothing to stderr."""

        def _respond(self, content_type: str, body: str) -> None:
            data = body.encode()
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


@contextmanager
def agent_api() -> Generator[AgentApi]:
    """The API on a loopback port."""
    api = AgentApi()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(api)) as server:
        api.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
