"""The Messages API, reached through Anthropic's SDK: requests, streams, files, models, platforms and their errors."""
