import type { components, paths } from "./schema";

const body: components["schemas"]["ChatRequest"] = { message: "Hello", model: "haiku", max_tokens: 100 };
const path: keyof paths = "/chat/{call_id}";
type Stopping = paths["/chat/{call_id}/stop"]["post"]["responses"][200]["content"]["application/json"];
const stopping: Stopping = { stopping: true };
console.log(body, path, stopping);
// @ts-expect-error a question has no such field
const wrong: components["schemas"]["ChatRequest"] = { message: "Hello", colour: "red" };
console.log(wrong);
