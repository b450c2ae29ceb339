"""One call, answered: admission, the request loop, retries, continuations, structured output, cost and accounting."""
