// A client of the TypeScript SDK: node typescript_sdk.mjs '{"version": 1, "mode": "auto", "url": …, "command": …}'.
// Prints, as JSON, everything that it receives.
const request = JSON.parse(process.argv[2]);
const isFirst = request.version === 1;
const [main, stdio, http] = isFirst
  ? await Promise.all(
      ["index", "stdio", "streamableHttp"].map((name) => import(`@modelcontextprotocol/sdk/client/${name}.js`)),
    )
  : await Promise.all(["", "/stdio", ""].map((path) => import(`@modelcontextprotocol/client${path}`)));

function transport() {
  if (request.url) return new http.StreamableHTTPClientTransport(new URL(request.url));
  const [command, ...args] = request.command;
  return new stdio.StdioClientTransport({ command, args, env: request.environment });
}

const options = request.mode === "auto" && !isFirst ? { versionNegotiation: { mode: "auto" } } : {};
const client = new main.Client({ name: "typescript", version: "1" }, options);
await client.connect(transport(), { timeout: 240_000 });

function callTool(name, args, more = {}) {
  const parameters = { name, arguments: args };
  return isFirst ? client.callTool(parameters, undefined, more) : client.callTool(parameters, more);
}

const progress = [];
const answer = await callTool(
  "claude_ask",
  { prompt: request.prompts.slow },
  { onprogress: (update) => progress.push(update.message ?? "") },
);

async function hasReachedUpstream(mark) {
  const response = await fetch(`${request.simulator}/_simulator/requests`);
  return (await response.json()).some((each) => JSON.stringify(each.body).includes(mark));
}

const controller = new AbortController();
const call = callTool("claude_ask", { prompt: request.prompts.cancel }, { signal: controller.signal });
const ending = call.then(
  () => false,
  () => true,
);
while (!(await hasReachedUpstream(request.prompts.cancel))) await new Promise((resolve) => setTimeout(resolve, 100));
controller.abort("enough");
const cancelled = await ending;

const error = await callTool("claude_ask", { prompt: request.prompts.error });
const models = await client.readResource({ uri: "claude://models" });
const prompt = await client.getPrompt({ name: "explain", arguments: { path: "src" } });
const completion = await client.complete({
  ref: { type: "ref/prompt", name: "explain" },
  argument: { name: "model", value: "op" },
});
console.log(
  JSON.stringify({
    protocol: client.getNegotiatedProtocolVersion?.() ?? "",
    tools: (await client.listTools()).tools.map((tool) => tool.name),
    text: answer.content.map((block) => block.text).join("\n"),
    progress,
    cancelled,
    error: error.isError ? error.content[0].text : "",
    resources: (await client.listResources()).resources.map((resource) => resource.uri),
    resource: models.contents[0].text,
    prompts: (await client.listPrompts()).prompts.map((each) => each.name),
    prompt: prompt.messages[0].content.text,
    completions: completion.completion.values,
  }),
);
await client.close();
