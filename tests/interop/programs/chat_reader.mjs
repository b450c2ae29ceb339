// Reads an answer of /chat with a library: node chat_reader.mjs LIBRARY URL BODY. Prints, as JSON, the text and the names of events.
const [library, url, body] = process.argv.slice(2);
const init = { method: "POST", headers: { "Content-Type": "application/json", Accept: "text/event-stream" }, body };
const names = [];
let text = "";

function onEvent(name, data) {
  if (name && name !== "message") names.push(name);
  else text += data;
}

if (library === "eventsource-parser") {
  const { EventSourceParserStream } = await import("eventsource-parser/stream");
  const response = await fetch(url, init);
  const events = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  for await (const event of events) onEvent(event.event, event.data);
} else if (library === "eventsource") {
  const { EventSource } = await import("eventsource");
  await new Promise((resolve, reject) => {
    const source = new EventSource(url, { fetch: (input, more) => fetch(input, { ...more, ...init }) });
    source.onmessage = (event) => onEvent("", event.data);
    for (const name of ["start", "usage", "done"]) source.addEventListener(name, (event) => onEvent(name, event.data));
    source.addEventListener("done", () => resolve(source.close()));
    source.onerror = (event) => reject(new Error(event.message));
  });
} else {
  globalThis.window = globalThis; // it is written for browsers
  globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
  const { default: module } = await import("@microsoft/fetch-event-source");
  await module.fetchEventSource(url, {
    ...init,
    onmessage: (event) => onEvent(event.event, event.data),
    onerror(error) {
      throw error;
    },
  });
}
console.log(JSON.stringify({ text, names }));
