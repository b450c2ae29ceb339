"""The server that one writes first: thirty lines, everything imported at the top, every delta forwarded as it comes."""

import os

from anthropic import AsyncAnthropic
from mcp.server.mcpserver import Context, MCPServer

MODEL = os.environ.get("MODEL", "claude-sonnet-5-5")

mcp = MCPServer("naive")
claude = AsyncAnthropic()


@mcp.tool()
async def ask(prompt: str, ctx: Context) -> str:
    """Ask Claude."""
    deltas = 0
    answer = ""
    async with claude.messages.stream(
        model=MODEL,
        max_tokens=128_000,
        messages=[{"role": "user", "content": prompt}],
    ) as stream:
        async for text in stream.text_stream:
            deltas += 1
            answer += text
            await ctx.report_progress(deltas, message=text)
    return answer


if __name__ == "__main__":
    mcp.run("stdio")
