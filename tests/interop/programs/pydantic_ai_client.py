"""A toolset of Pydantic AI, also in the hands of an agent; prints, as JSON, everything that it receives."""

import asyncio
import json
import sys

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel
from upstream_requests import wait_for_request


async def main() -> None:
    request = json.loads(sys.argv[1])
    prompts = request["prompts"]
    if request.get("url"):
        source = request["url"]
    else:
        command, *arguments = request["command"]
        source = StdioTransport(command, arguments, env=request["environment"])
    report = {}
    toolset = MCPToolset(source, init_timeout=240)

    def ask_once(messages: list, _info: object) -> ModelResponse:
        results = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        if results:
            return ModelResponse(parts=[TextPart(str(results[0].content))])
        return ModelResponse(parts=[ToolCallPart("claude_ask", {"prompt": prompts["slow"]})])

    async with toolset:
        report["tools"] = [tool.name for tool in await toolset.list_tools()]
        agent = Agent(FunctionModel(ask_once), toolsets=[toolset])
        report["text"] = (await agent.run("go")).output

        call = asyncio.create_task(toolset.direct_call_tool("claude_ask", {"prompt": prompts["cancel"]}))
        await wait_for_request(request["simulator"], prompts["cancel"])
        call.cancel()
        (outcome,) = await asyncio.gather(call, return_exceptions=True)
        report["cancelled"] = isinstance(outcome, asyncio.CancelledError)

        try:
            await toolset.direct_call_tool("claude_ask", {"prompt": prompts["error"]})
        except ModelRetry as error:
            report["error"] = str(error)
        report["resources"] = [resource.uri for resource in await toolset.list_resources()]
        report["resource"] = await toolset.read_resource("claude://models")
        report["prompts"] = [prompt.name for prompt in await toolset.list_prompts()]
        report["prompt"] = (await toolset.get_prompt("explain", {"path": "src"})).messages[0].content.content
    sys.stdout.write(json.dumps(report) + "\n")


asyncio.run(main())
