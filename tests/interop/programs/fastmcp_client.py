"""A client of FastMCP; prints, as JSON, everything that it receives."""

import asyncio
import json
import sys

from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from fastmcp.exceptions import ToolError
from upstream_requests import wait_for_request


async def main() -> None:
    request = json.loads(sys.argv[1])
    prompts = request["prompts"]
    if request.get("url"):
        transport = StreamableHttpTransport(request["url"])
    else:
        command, *arguments = request["command"]
        transport = StdioTransport(command, arguments, env=request["environment"])
    report = {}
    async with Client(transport) as client:
        report["tools"] = [tool.name for tool in await client.list_tools()]
        report["progress"] = progress = []

        async def on_progress(_progress: float, _total: float | None, message: str | None) -> None:
            progress.append(message or "")

        answer = await client.call_tool("claude_ask", {"prompt": prompts["slow"]}, progress_handler=on_progress)
        report["text"] = "\n".join(block.text for block in answer.content)

        call = asyncio.create_task(client.call_tool("claude_ask", {"prompt": prompts["cancel"]}))
        await wait_for_request(request["simulator"], prompts["cancel"])
        call.cancel()
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        report["cancelled"] = isinstance(outcome, asyncio.CancelledError)

        try:
            await client.call_tool("claude_ask", {"prompt": prompts["error"]})
        except ToolError as error:
            report["error"] = str(error)
        report["resources"] = [str(resource.uri) for resource in await client.list_resources()]
        report["resource"] = (await client.read_resource("claude://models"))[0].text
        report["prompts"] = [prompt.name for prompt in await client.list_prompts()]
        report["prompt"] = (await client.get_prompt("explain", {"path": "src"})).messages[0].content.text
        completion = await client.complete({"type": "ref/prompt", "name": "explain"}, {"name": "model", "value": "op"})
        report["completions"] = completion.values
    sys.stdout.write(json.dumps(report) + "\n")


asyncio.run(main())
