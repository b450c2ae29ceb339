"""The MCP servers of OpenAI's agents; prints, as JSON, everything that it receives."""

import asyncio
import json
import sys

from agents.mcp import MCPServerStdio, MCPServerStreamableHttp
from upstream_requests import wait_for_request


async def main() -> None:
    request = json.loads(sys.argv[1])
    prompts = request["prompts"]
    if request.get("url"):
        server = MCPServerStreamableHttp({"url": request["url"]}, client_session_timeout_seconds=240)
    else:
        command, *arguments = request["command"]
        parameters = {"command": command, "args": arguments, "env": request["environment"]}
        server = MCPServerStdio(parameters, client_session_timeout_seconds=240)
    report = {}
    async with server:
        report["tools"] = [tool.name for tool in await server.list_tools()]
        answer = await server.call_tool("claude_ask", {"prompt": prompts["slow"]})
        report["text"] = "\n".join(block.text for block in answer.content)

        call = asyncio.create_task(server.call_tool("claude_ask", {"prompt": prompts["cancel"]}))
        await wait_for_request(request["simulator"], prompts["cancel"])
        call.cancel()
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        report["cancelled"] = isinstance(outcome, asyncio.CancelledError)

        failed = await server.call_tool("claude_ask", {"prompt": prompts["error"]})
        report["error"] = failed.content[0].text if failed.is_error else ""
        report["resources"] = [str(resource.uri) for resource in (await server.list_resources()).resources]
        report["resource"] = (await server.read_resource("claude://models")).contents[0].text
        report["prompts"] = [prompt.name for prompt in (await server.list_prompts()).prompts]
        report["prompt"] = (await server.get_prompt("explain", {"path": "src"})).messages[0].content.text
    sys.stdout.write(json.dumps(report) + "\n")


asyncio.run(main())
