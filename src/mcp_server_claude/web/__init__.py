"""The HTTP server: one FastAPI app for MCP clients (`/mcp`), programs (`/chat`) and people (`/`)."""
