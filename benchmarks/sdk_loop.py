"""The SDK's own `messages.stream()` loop and nothing else: no MCP, no progress. A prompt a line in, a line out."""

import asyncio
import json
import os
import sys
import time

from anthropic import AsyncAnthropic

MODEL = os.environ.get("MODEL", "claude-sonnet-5-5")


async def ask(claude: AsyncAnthropic, prompt: str) -> tuple[int, float]:
    """The answer's length in characters, and when its first text came (`time.monotonic()`)."""
    chars, first_at = 0, 0.0
    async with claude.messages.stream(
        model=MODEL, max_tokens=128_000, messages=[{"role": "user", "content": prompt}]
    ) as stream:
        async for text in stream.text_stream:
            first_at = first_at or time.monotonic()
            chars += len(text)
    return chars, first_at


async def main() -> None:
    claude = AsyncAnthropic()
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await ask(claude, json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
