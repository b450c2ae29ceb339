"""The blocks of server tools within a response: a search, a fetched page, a run of code.

The shapes follow the types of the SDK (2.11), recorded streams, and the documentation of each tool.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

from mcp_server_claude.simulator.server_tool_state import SERVER_TOOL_USE
from mcp_server_claude.simulator.token_counting import CHARS_PER_TOKEN, token_count

if TYPE_CHECKING:
    from mcp_server_claude.simulator.event_builder import EventBuilder
    from mcp_server_claude.simulator.json_body import Json, Object

SEARCH_RESULTS = (
    ("Field notes", "https://example.com/field-notes"),
    ("A longer introduction", "https://example.org/introduction"),
    ("Reference tables", "https://example.net/reference"),
)
PROGRAM_PATH = "/tmp/answer.py"  # noqa: S108 - in a container that does not exist
MAX_TITLE_CHARS = 80
SHORT_RESULT_TOKENS = 150
"""Tokens of the results of a search whose length no prompt chooses."""


@dataclass(frozen=True, slots=True)
class WebSearch:
    """A search of the web. Its results have `tokens`, 0 for a few. `refused` is the error code of one that failed."""

    query: str
    tokens: int = 0
    refused: str = ""


@dataclass(frozen=True, slots=True)
class WebFetch:
    """A page that is fetched. It has `tokens`, 0 for a sentence. `refused` is the error code of one that failed."""

    url: str
    tokens: int = 0
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeRun:
    """A program that is written and run: what it prints, and the ids of the files it makes.

    `is_pending` leaves it without a result, `started_use_id` is the use whose result comes only now.
    """

    program: str = ""
    stdout: str = ""
    output_file_ids: tuple[str, ...] = ()
    is_pending: bool = False
    started_use_id: str = ""


ServerToolUse: TypeAlias = WebSearch | WebFetch | CodeRun


def add_server_tool_blocks(builder: EventBuilder, use: ServerToolUse, seed: str) -> None:
    """Write down what a server tool does."""
    match use:
        case WebSearch():
            _add_search(builder, use, seed)
        case WebFetch():
            _add_fetch(builder, use, seed)
        case CodeRun(started_use_id=""):
            _add_code_run(builder, use, seed)
        case CodeRun(started_use_id=begun):
            builder.add_block(_code_result(begun, use))


def citation_for(use: ServerToolUse, text: str) -> Object:
    """The citation of a source in a text."""
    match use:
        case WebFetch(refused="", url=url):
            return {
                "type": "char_location",
                "cited_text": _page_text(use)[:60],
                "document_index": 0,
                "document_title": _page_title(url),
                "start_char_index": 0,
                "end_char_index": 60,
                "file_id": None,
            }
        case WebSearch(refused="", query=query):
            title, url = SEARCH_RESULTS[0]
            return {
                "type": "web_search_result_location",
                "cited_text": f"What is known about {query}"[:150],
                "url": url,
                "title": f"{title}: {query}"[:MAX_TITLE_CHARS],
                "encrypted_index": b64encode(_sha256(text)).decode(),
            }
        case _:
            return {}


def server_tool_usage(uses: tuple[ServerToolUse, ...]) -> Object:
    """`usage.server_tool_use`; the API counts no runs of code there."""
    searches = search_count(uses)
    fetches = sum(isinstance(use, WebFetch) and not use.refused for use in uses)
    return {"web_search_requests": searches, "web_fetch_requests": fetches}


def search_count(uses: tuple[ServerToolUse, ...]) -> int:
    """The searches that are billed: those that failed are not ("Web search tool", August 2026)."""
    return sum(isinstance(use, WebSearch) and not use.refused for use in uses)


def result_tokens(use: ServerToolUse) -> int | None:
    """The tokens that a use brings into the context; None where it has no result yet."""
    match use:
        case CodeRun(is_pending=False, started_use_id="", stdout=printed):
            return token_count(len(printed))
        case CodeRun():
            return None
        case WebSearch(refused="", tokens=0):
            return SHORT_RESULT_TOKENS
        case WebFetch(refused=""):
            return token_count(len(_page_text(use)))
        case WebSearch(tokens=tokens) | WebFetch(tokens=tokens):
            return tokens


def _add_search(builder: EventBuilder, use: WebSearch, seed: str) -> None:
    query = use.query
    name = _tool_use_id(seed, query)
    builder.add_block_with_input({"type": SERVER_TOOL_USE, "id": name, "name": "web_search"}, {"query": query})
    if use.refused:
        error: Object = {"type": "web_search_tool_result_error", "error_code": use.refused}
        builder.add_block({"type": "web_search_tool_result", "tool_use_id": name, "content": error})
        return
    encrypted_chars = use.tokens * CHARS_PER_TOKEN // len(SEARCH_RESULTS)
    results: list[Json] = [
        {
            "type": "web_search_result",
            "title": f"{title}: {query}"[:MAX_TITLE_CHARS],
            "url": url,
            "encrypted_content": b64encode(_sha256(url)).decode().ljust(encrypted_chars, "A"),
            "page_age": "November 12, 2026",
        }
        for title, url in SEARCH_RESULTS
    ]
    builder.add_block({"type": "web_search_tool_result", "tool_use_id": name, "content": results})


def _add_fetch(builder: EventBuilder, use: WebFetch, seed: str) -> None:
    url = use.url
    name = _tool_use_id(seed, url)
    builder.add_block_with_input({"type": SERVER_TOOL_USE, "id": name, "name": "web_fetch"}, {"url": url})
    if use.refused:
        error: Object = {"type": "web_fetch_tool_result_error", "error_code": use.refused}
        builder.add_block({"type": "web_fetch_tool_result", "tool_use_id": name, "content": error})
        return
    page: Object = {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": _page_text(use)},
        "title": _page_title(url),
        "citations": {"enabled": True},
    }
    found: Object = {"type": "web_fetch_result", "url": url, "content": page, "retrieved_at": "2026-11-20T09:30:00Z"}
    builder.add_block({"type": "web_fetch_tool_result", "tool_use_id": name, "content": found})


def _add_code_run(builder: EventBuilder, run: CodeRun, seed: str) -> None:
    written, ran = _tool_use_id(seed, f"write {run.program}"), _tool_use_id(seed, f"run {run.program}")
    file: Object = {"command": "create", "path": PROGRAM_PATH, "file_text": run.program}
    builder.add_block_with_input({"type": SERVER_TOOL_USE, "id": written, "name": "text_editor_code_execution"}, file)
    created: Object = {"type": "text_editor_code_execution_create_result", "is_file_update": False}
    builder.add_block({"type": "text_editor_code_execution_tool_result", "tool_use_id": written, "content": created})
    builder.add_block_with_input(
        {"type": SERVER_TOOL_USE, "id": ran, "name": "bash_code_execution"}, {"command": f"python {PROGRAM_PATH}"}
    )
    if not run.is_pending:
        builder.add_block(_code_result(ran, run))


def _code_result(tool_use_id: str, run: CodeRun) -> Object:
    files: list[Json] = [{"type": "bash_code_execution_output", "file_id": file_id} for file_id in run.output_file_ids]
    result: Object = {
        "type": "bash_code_execution_result",
        "stdout": run.stdout,
        "stderr": "",
        "return_code": 0,
        "content": files,
    }
    return {"type": "bash_code_execution_tool_result", "tool_use_id": tool_use_id, "content": result}


def _page_text(page: WebFetch) -> str:
    """The text of a page: one sentence, or as many as its tokens make."""
    said = (
        f"The page at {page.url} says what such pages say: first what it is about, then the details, then the sources."
    )
    chars = page.tokens * CHARS_PER_TOKEN or len(said)
    return (f"{said} " * (chars // len(said) + 1))[:chars]


def _page_title(url: str) -> str:
    return f"The page {url.removeprefix('https://')}"[:MAX_TITLE_CHARS]


def _tool_use_id(seed: str, what: str) -> str:
    return f"srvtoolu_01{_sha256(seed + what).hex()[:22]}"


def _sha256(text: str) -> bytes:
    return sha256(text.encode("utf-8", "replace")).digest()
