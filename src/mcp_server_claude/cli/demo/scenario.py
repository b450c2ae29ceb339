"""The scenario of the demo: connect a client to the server, ask twice, report the results."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.types import CallToolResult, TextContent
from pydantic import TypeAdapter

from mcp_server_claude import __version__, exit_codes, number_formatting
from mcp_server_claude.anthropic_api.credentials import ANTHROPIC_URL
from mcp_server_claude.anthropic_api.platforms import find_credential
from mcp_server_claude.call_types import Usage
from mcp_server_claude.server.tool_dependencies import PROGRESS_KEY
from mcp_server_claude.server.tool_results import ERROR_KEY, USAGE_KEY
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import Pace, Simulator, directive

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from mcp.types import RequestParamsMeta

    from mcp_server_claude.cli.demo.terminal_screens import DemoScreen, Fact

DEMO_PACE = Pace(ttft_s=0.6, tokens_per_s=32)
"""A little faster than one reads."""
PAUSE_BETWEEN_CALLS_S = 0.8
CANCEL_AFTER_CHARS = 320
"""Characters after which the second call is cancelled."""
CANCEL_TIMEOUT_S = 3.0
"""How long the API and the server may take to be done with a cancelled call."""
CALL_ID = re.compile(r"\bc_[0-9a-f]{16,40}\b")

QUESTION = "How does an answer get from you to my editor while you are still writing it? In 150 words."
ANSWER = """\
Through four pairs of hands, a few letters at a time.

1. **Your editor** calls the tool `claude_ask` and asks for progress notifications.
2. **The server** writes the call into its ledger, then opens a stream to the Messages API.
3. **The API** sends the answer in pieces, and a piece is not a word: “strea” may come before “ming”.
4. **Progress notifications** carry the pieces on, ten times a second. Joined, they are the answer to the last letter.

### Why take the trouble?

- You read while I write, so a long answer feels short.
- A call that shows signs of life is not given up after five minutes.
- You can stop me. The connection closes at once, and what was written until then is kept and accounted for.

At the end the result follows: the whole text, its tokens, its price."""
ESSAY_PROMPT = "Write a long essay on the telegraph, in ten chapters."
ESSAY = """\
**The telegraph, in ten chapters**

## 1. Before the wire

For most of history, news was as fast as a horse. Then, in 1794, a Frenchman by the name of Claude Chappe put wooden \
arms on a row of towers between Paris and Lille. A message crossed 230 kilometres in a few minutes, as long as the \
weather was clear and nobody along the line fell asleep. It was the first time that words travelled faster than people.

## 2. The wire

Electricity does not mind the weather. Within two generations the towers were empty, and a cable lay under the sea."""


async def run_scenario(screen: DemoScreen, prompt: str, *, live: bool, home: str, log: TextIO) -> int:
    """Show it all; the exit code. `home` is a directory for the server's data, `log` a file for its stderr."""
    async with AsyncExitStack() as stack:
        simulator = None if live else await stack.enter_async_context(_demo_simulator(prompt))
        began = time.monotonic()
        client = await stack.enter_async_context(Client(stdio_client(_server_parameters(simulator, home), errlog=log)))
        duration = number_formatting.format_seconds(time.monotonic() - began)
        tools = [tool.name for tool in (await client.list_tools()).tools]
        screen.show_title(
            f"mcp-server-claude {__version__}", "the real API, your key" if live else "no key, no network"
        )
        screen.show_facts(
            ("API", f"simulated, on {simulator.url}" if simulator else "the real one"),
            ("server", f"a child process over stdio, MCP {client.protocol_version}, ready in {duration}"),
            ("tools", ", ".join(tools)),
        )
        result = (
            await _call_ask_tool(client, screen, prompt or QUESTION, model="" if _is_gateway(live=live) else "sonnet")
        ).result
        if result is None or result.is_error:
            screen.show_facts(("failed", _result_text(result)))
            return exit_codes.stored_error_exit_code(_error_of_result(result))
        screen.show_facts(*_usage_facts(_usage_of_result(result)))
        await anyio.sleep(PAUSE_BETWEEN_CALLS_S)

        essay = ESSAY_PROMPT if live else f"{ESSAY_PROMPT} {directive(text=ESSAY)}"
        streamed = await _call_ask_tool(
            client, screen, essay, model="" if _is_gateway(live=live) else "opus", stop_at=CANCEL_AFTER_CHARS
        )
        screen.show_facts(*await _cancellation_facts(streamed, simulator), *await _partial_answer_facts(client))
    screen.show_next_steps()
    return 0


async def _call_ask_tool(
    client: Client, screen: DemoScreen, prompt: str, *, model: str, stop_at: int = 0
) -> StreamedCall:
    """Ask, and show the text as it arrives; cancel after `stop_at` characters, where that is not 0."""
    streamed = StreamedCall()
    meta: RequestParamsMeta = {PROGRESS_KEY: "text"}  # lossless: the messages joined are the answer
    call_text = f'claude_ask(prompt, model="{model}")' + (", cancelled half-way" if stop_at else "")
    with screen.show_answer(call_text, prompt.partition(" [[sim:")[0]) as page, anyio.CancelScope() as scope:

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            del progress, total
            if not message or streamed.cancelled_at is not None:
                return
            streamed.text += message
            try:
                page.write(message)
            except BrokenPipeError:
                scope.cancel()  # the SDK only logs what a callback raises; the page's end raises it again
            if stop_at and len(streamed.text) >= stop_at:
                streamed.cancelled_at = time.monotonic()
                page.mark_incomplete("cancelled")
                scope.cancel()

        arguments = {"prompt": prompt, "model": model}
        streamed.result = await client.call_tool("claude_ask", arguments, progress_callback=on_progress, meta=meta)
        if streamed.result.is_error:
            page.mark_incomplete("failed")
    return streamed


@dataclass(slots=True)
class StreamedCall:
    """A streamed call: its text so far, and its result or the moment at which it was cancelled."""

    text: str = ""
    result: CallToolResult | None = None
    cancelled_at: float | None = None


def _error_of_result(result: CallToolResult | None) -> Mapping[str, object]:
    error: object = ((result.meta if result else None) or {}).get(ERROR_KEY)
    return cast("Mapping[str, object]", error) if isinstance(error, dict) else {}


def _usage_of_result(result: CallToolResult) -> Usage:
    """The usage of a call, from the metadata of its result."""
    return TypeAdapter(Usage).validate_python((result.meta or {}).get(USAGE_KEY, {}))


def _usage_facts(usage: Usage) -> list[Fact]:
    about = "~" if usage.estimated else ""
    tokens = f"{usage.input_tokens + usage.cache_creation_input_tokens} in · {about}{usage.output_tokens} out"
    if usage.cache_read_input_tokens:
        tokens += f" · {number_formatting.format_tokens(usage.cache_read_input_tokens)} from the cache"
    first = "no text" if usage.ttft_s is None else f"first text after {usage.ttft_s:.2f} s"
    return [
        ("model", usage.model),
        ("tokens", tokens),
        ("cost", f"{about}{number_formatting.format_usd(usage.cost_usd)} ({usage.pricing_as_of or 'no price known'})"),
        ("time", f"{first}, {number_formatting.format_seconds(usage.duration_s)} in all"),
    ]


async def _cancellation_facts(streamed: StreamedCall, simulator: Simulator | None) -> list[Fact]:
    """When the API lost its client; only the simulated one reports it."""
    if streamed.cancelled_at is None:
        return [("cancelled", "no: the answer was complete before")]
    cancelled = ("cancelled", f"after {len(streamed.text)} characters, with notifications/cancelled")
    if simulator is None:
        return [cancelled]
    with anyio.move_on_after(CANCEL_TIMEOUT_S):
        await simulator.wait_until_idle()
    record = next(each for each in reversed(simulator.requests) if each.path == "/v1/messages")
    if record.end != "disconnected" or record.ended_at is None:
        return [cancelled, ("upstream", "still open")]
    late = (record.ended_at - streamed.cancelled_at) * 1000
    return [cancelled, ("upstream", f"closed {late:.1f} ms after the cancel")]


async def _partial_answer_facts(client: Client) -> list[Fact]:
    """Facts on the cancelled call, which has no result: its text so far and its usage."""
    found = CALL_ID.search(_result_text(await client.call_tool("claude_jobs", {})))  # those that were cut come first
    if found is None:
        return []
    job = await client.call_tool("claude_jobs", {"id": found[0], "wait": CANCEL_TIMEOUT_S})
    text = job.content[0].text if isinstance(job.content[0], TextContent) else ""
    return [("kept", f"{len(text)} characters, read back with claude_jobs"), *_usage_facts(_usage_of_result(job))]


def _demo_simulator(prompt: str) -> Simulator:
    """An API that answers `ANSWER`, or a made-up text to another prompt."""
    defaults = "" if prompt else directive(text=ANSWER).removeprefix("[[sim: ").removesuffix("]]")
    return Simulator(pace=DEMO_PACE, defaults=defaults)


def _is_gateway(*, live: bool) -> bool:
    """True if the real API is a gateway, which knows models by other names than ours."""
    return live and find_credential(Settings.load()).base_url != ANTHROPIC_URL


def _result_text(result: CallToolResult | None) -> str:
    blocks = result.content if result is not None else []
    return "\n".join(block.text for block in blocks if isinstance(block, TextContent))


def _server_parameters(simulator: Simulator | None, home: str) -> StdioServerParameters:
    """The server as a child, with a ledger of its own that goes with the demo."""
    env = {**os.environ, **_isolated_environment(home)} if simulator is None else simulator_environment(simulator, home)
    return StdioServerParameters(command=sys.executable, args=["-m", "mcp_server_claude"], env=env)


def simulator_environment(simulator: Simulator, home: str) -> dict[str, str]:
    """The variables of a server that asks the simulator, and knows nothing of its user's own settings."""
    return _isolated_environment(home) | {
        "MCP_CLAUDE_API_KEY": "sk-ant-simulated-and-not-a-key",
        "MCP_CLAUDE_BASE_URL": simulator.url,
        "MCP_CLAUDE_CONFIG": os.devnull,
    }


def _isolated_environment(home: str) -> dict[str, str]:
    return {"MCP_CLAUDE_DATA_DIR": home, "MCP_CLAUDE_LOG_LEVEL": "warning"}
