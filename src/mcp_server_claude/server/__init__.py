"""Everything that speaks MCP: the server, its transport over stdio, progress, resources, tools and their results."""
