"""The tools of LangChain's adapters; prints, as JSON, everything that it receives."""

import asyncio
import json
import sys

from langchain_mcp_adapters.callbacks import CallbackContext, Callbacks
from langchain_mcp_adapters.client import MultiServerMCPClient
from upstream_requests import wait_for_request


async def main() -> None:
    request = json.loads(sys.argv[1])
    prompts = request["prompts"]
    if request.get("url"):
        connection = {"transport": "http", "url": request["url"]}
    else:
        command, *arguments = request["command"]
        connection = {"transport": "stdio", "command": command, "args": arguments, "env": request["environment"]}
    progress = []

    async def on_progress(_done: float, _total: float | None, message: str | None, _context: CallbackContext) -> None:
        progress.append(message or "")

    client = MultiServerMCPClient({"claude": connection}, callbacks=Callbacks(on_progress=on_progress))
    tools = {tool.name: tool for tool in await client.get_tools()}
    report = {"tools": list(tools), "progress": progress}

    def tool_call(prompt: str) -> dict[str, object]:
        return {"type": "tool_call", "id": "1", "name": "claude_ask", "args": {"prompt": prompt}}

    ask = tools["claude_ask"]
    answer = await ask.ainvoke(tool_call(prompts["slow"]))
    report["text"] = "\n".join(block["text"] for block in answer.content)

    call = asyncio.create_task(ask.ainvoke(tool_call(prompts["cancel"])))
    await wait_for_request(request["simulator"], prompts["cancel"])
    call.cancel()
    (outcome,) = await asyncio.gather(call, return_exceptions=True)
    report["cancelled"] = isinstance(outcome, BaseException)  # the end of its session may hide the cancellation

    failed = await ask.ainvoke(tool_call(prompts["error"]))
    report["error"] = f"{failed.content}" if failed.status == "error" else ""
    resources = await client.get_resources("claude")
    report["resources"] = [str(resource.metadata["uri"]) for resource in resources]
    models = await client.get_resources("claude", uris="claude://models")
    report["resource"] = models[0].as_string()
    messages = await client.get_prompt("claude", "explain", arguments={"path": "src"})
    report["prompt"] = messages[0].content
    sys.stdout.write(json.dumps(report) + "\n")


asyncio.run(main())
