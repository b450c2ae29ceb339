"""Results of tools: an answer or an error as an MCP client gets it.

`content[0]` is the answer and nothing else; `content[1]` one line for the reader; `_meta` the complete usage. There is
no `structuredContent` for text: Claude Code and VS Code would show the model that JSON instead of the answer.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from mcp.types import CallToolResult, ContentBlock, ResourceLink, TextContent

from mcp_server_claude.calls.usage_footer import usage_footer
from mcp_server_claude.errors import UnknownIdError
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server_claude.call_types import OutputFile, Reply
    from mcp_server_claude.errors import CallError
    from mcp_server_claude.server.client_quirks import ClientTrait

USAGE_KEY = "mcp-server-claude/usage"
CITATIONS_KEY = "mcp-server-claude/citations"
FILES_KEY = "mcp-server-claude/files"
ERROR_KEY = "mcp-server-claude/failure"
ID_HINTS = {
    "call": "claude_jobs without an id lists the latest.",
    "job": "claude_jobs without an id lists the latest.",
    "thread": "claude_jobs lists the latest; leave thread out to begin a new one.",
}
"""Where a model finds the ids."""


def reply_result(reply: Reply, *, with_footer: bool, limit: int | None = None) -> CallToolResult:
    """A reply with text, complete or not. An incomplete one says so in its last block.

    Past `limit` characters the head is returned with a link to the whole; of JSON the link alone, since its head is
    nothing that could be read.
    """
    too_big = limit is not None and len(reply.text) > limit
    if too_big and reply.structured_output is not None:
        content = _link_to_json(reply.text, reply.usage.call_id)
    else:
        content = truncate_text(reply.text, f"claude://calls/{reply.usage.call_id}", limit)
    if with_footer:
        content.append(_text_block(usage_footer(reply.usage, reply.notes)))
    content.extend(map(file_resource_link, reply.files))
    if reply.incomplete:
        content.append(_text_block(f"INCOMPLETE: {reply.incomplete}"))
    meta: dict[str, object] = {USAGE_KEY: dict(reply.usage.as_json())} | files_meta(reply.files)
    if reply.citations:
        meta[CITATIONS_KEY] = [asdict(citation) for citation in reply.citations]
    structured: dict[str, object] | None = None
    value = reply.structured_output.value if reply.structured_output is not None else None
    if isinstance(value, dict) and not too_big:
        # Claude Code shows its model this and nothing else; other roots than objects are text only (2025-11-25).
        data = cast("dict[str, object]", value)
        structured = {"data": data, "thread": reply.usage.thread, "cost_usd": reply.usage.cost_usd}
    return CallToolResult(content=content, structured_content=structured, _meta=meta)


def file_resource_link(file: OutputFile) -> ResourceLink:
    """A link to a file that code has made."""
    return ResourceLink(
        type="resource_link", uri=_file_resource_uri(file), name=file.name, mime_type=file.mime_type, size=file.bytes
    )


def files_meta(files: Sequence[OutputFile]) -> dict[str, object]:
    """The same as data, where there is any."""
    return {FILES_KEY: [asdict(file) | {"uri": _file_resource_uri(file)} for file in files]} if files else {}


def _file_resource_uri(file: OutputFile) -> str:
    return f"claude://files/{file.id}"


def truncate_text(text: str, address: str, limit: int | None, noun: str = "answer") -> list[ContentBlock]:
    """A text; past `limit` its head, with a link to the whole and a line that says so, and where the rest begins."""
    whole = replace_lone_surrogates(text)
    head = whole if limit is None or len(whole) <= limit else _first_lines(whole, limit)
    content: list[ContentBlock] = [_text_block(head)]
    if len(head) < len(whole):
        content.append(ResourceLink(type="resource_link", uri=address, name=f"the whole {noun}"))
        content.append(
            _text_block(
                f"CUT: {len(head):,} of {len(whole):,} characters; {address} has the whole {noun}, "
                f"{address}?offset={len(head)} continues from here page by page."
            )
        )
    return content


def _link_to_json(text: str, call_id: str) -> list[ContentBlock]:
    address = f"claude://calls/{call_id}"
    size = f"The JSON has {len(text):,} characters, more than a result may have here."
    return [
        _text_block(f"{size} {address} holds it whole, {address}?offset=0 page by page."),
        ResourceLink(type="resource_link", uri=address, name="the whole answer", mime_type="text/plain"),
    ]


def tool_error_text(error: CallError) -> str:
    """The text of an error for a model, which finds ids with a tool."""
    return f"{error} {ID_HINTS[error.thing]}" if isinstance(error, UnknownIdError) else str(error)


def error_result(error: CallError) -> CallToolResult:
    """A call without an answer: one sentence that a model can act on, and what a program needs in `_meta`."""
    usage = None if error.usage is None else error.usage.as_json()
    return failure_result(tool_error_text(error), error.as_json(), usage)


def failure_result(message: str, fields: Mapping[str, object], usage: Mapping[str, object] | None) -> CallToolResult:
    """The result for an error that is there as JSON values."""
    meta: dict[str, object] = {ERROR_KEY: dict(fields)}
    where = ""
    if usage is not None:
        meta[USAGE_KEY] = dict(usage)
        where = f" [{usage.get('call_id', '')}]"
    return CallToolResult(content=[_text_block(f"{message}{where}")], is_error=True, _meta=meta)


def adapt_to_client(result: CallToolResult, traits: frozenset[ClientTrait]) -> CallToolResult:
    """The result in the blocks that a client reads: links as text, and all text in one block, where it needs that."""
    as_one = "reads_first_text_only" in traits
    if not as_one and "rejects_resource_links" not in traits:
        return result
    content: list[ContentBlock] = []
    for block in result.content:
        if not isinstance(block, ResourceLink):
            content.append(block)
        elif not any(isinstance(other, TextContent) and block.uri in other.text for other in result.content):
            content.append(_text_block(_link_text(block)))
    if as_one:
        texts = [block.text for block in content if isinstance(block, TextContent)]
        content = [
            *(_text_block("\n\n".join(texts)) for _ in texts[:1]),
            *(block for block in content if not isinstance(block, TextContent)),
        ]
    return result.model_copy(update={"content": content})


def _link_text(link: ResourceLink) -> str:
    details = [part for part in (link.mime_type, f"{link.size:,} bytes" if link.size is not None else "") if part]
    return f"{link.name}: {link.uri}" + (f" ({', '.join(details)})" if details else "")


def text_result(*blocks: str) -> CallToolResult:
    """Plain text blocks: a table, a note."""
    return CallToolResult(content=[_text_block(block) for block in blocks])


def _text_block(text: str) -> TextContent:
    return TextContent(type="text", text=replace_lone_surrogates(text))


def _first_lines(text: str, limit: int) -> str:
    """The first characters of a text, up to the end of a line where one is near."""
    end = text.rfind("\n", limit // 2, limit)
    return text[: end + 1 if end > 0 else limit]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: models and people read it alike."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_table_cell(cell) for cell in line)} |" for line in lines)


def _table_cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
