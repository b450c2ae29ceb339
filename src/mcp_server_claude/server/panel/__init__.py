"""The panel: a page that hosts with MCP Apps show beside a tool call, with live text, spending and jobs.

https://github.com/modelcontextprotocol/ext-apps, specification 2026-01-26 (read 2026-11-29). Other clients see neither
its resource nor its tool.
"""
