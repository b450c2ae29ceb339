"""What server tools do within a response, as blocks: a search, a page that is fetched, code that is run.

The shapes follow the types of the SDK (2.11), recorded streams, and the documentation of each tool.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

from mcp_server_claude.simulator.server_tool_state import USE

if TYPE_CHECKING:
    from mcp_server_claude.simulator.event_builder import Sheet
    from mcp_server_claude.simulator.json_body import Json, Object

SOURCES = (
    ("Field notes", "https://example.com/field-notes"),
    ("A longer introduction", "https://example.org/introduction"),
    ("Reference tables", "https://example.net/reference"),
)
PROGRAM = "/tmp/answer.py"  # noqa: S108 - in a container that does not exist
SHOWN = 80


@dataclass(frozen=True, slots=True)
class Search:
    """A search of the web."""

    query: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """A page that is fetched."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A program that is written and run: what it prints, and the ids of the files it makes.

    `pending` leaves it without a result, `begun` is the use whose result comes only now.
    """

    program: str = ""
    prints: str = ""
    made: tuple[str, ...] = ()
    pending: bool = False
    begun: str = ""


Use: TypeAlias = Search | Fetch | Run


def put(sheet: Sheet, use: Use, seed: str) -> None:
    """Write down what a server tool does."""
    match use:
        case Search(query):
            _search(sheet, query, seed)
        case Fetch(url):
            _fetch(sheet, url, seed)
        case Run(begun=""):
            _run(sheet, use, seed)
        case Run(begun=begun):
            sheet.whole(_ran(begun, use))


def cited(use: Use, said: str) -> Object:
    """How a text cites what was found."""
    match use:
        case Fetch(url):
            return {
                "type": "char_location",
                "cited_text": _page(url)[:60],
                "document_index": 0,
                "document_title": _title(url),
                "start_char_index": 0,
                "end_char_index": 60,
                "file_id": None,
            }
        case Search(query):
            title, url = SOURCES[0]
            return {
                "type": "web_search_result_location",
                "cited_text": f"What is known about {query}"[:150],
                "url": url,
                "title": f"{title}: {query}"[:SHOWN],
                "encrypted_index": b64encode(_digest(said)).decode(),
            }
        case Run():
            return {}


def counts(uses: tuple[Use, ...]) -> Object:
    """`usage.server_tool_use`; the API counts no runs of code there."""
    searches = sum(isinstance(use, Search) for use in uses)
    fetches = sum(isinstance(use, Fetch) for use in uses)
    return {"web_search_requests": searches, "web_fetch_requests": fetches}


def _search(sheet: Sheet, query: str, seed: str) -> None:
    name = _id(seed, query)
    sheet.given({"type": USE, "id": name, "name": "web_search"}, {"query": query})
    results: list[Json] = [
        {
            "type": "web_search_result",
            "title": f"{title}: {query}"[:SHOWN],
            "url": url,
            "encrypted_content": b64encode(_digest(url)).decode(),
            "page_age": "November 12, 2026",
        }
        for title, url in SOURCES
    ]
    sheet.whole({"type": "web_search_tool_result", "tool_use_id": name, "content": results})


def _fetch(sheet: Sheet, url: str, seed: str) -> None:
    name = _id(seed, url)
    sheet.given({"type": USE, "id": name, "name": "web_fetch"}, {"url": url})
    page: Object = {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": _page(url)},
        "title": _title(url),
        "citations": {"enabled": True},
    }
    found: Object = {"type": "web_fetch_result", "url": url, "content": page, "retrieved_at": "2026-11-20T09:30:00Z"}
    sheet.whole({"type": "web_fetch_tool_result", "tool_use_id": name, "content": found})


def _run(sheet: Sheet, run: Run, seed: str) -> None:
    written, ran = _id(seed, f"write {run.program}"), _id(seed, f"run {run.program}")
    file: Object = {"command": "create", "path": PROGRAM, "file_text": run.program}
    sheet.given({"type": USE, "id": written, "name": "text_editor_code_execution"}, file)
    created: Object = {"type": "text_editor_code_execution_create_result", "is_file_update": False}
    sheet.whole({"type": "text_editor_code_execution_tool_result", "tool_use_id": written, "content": created})
    sheet.given({"type": USE, "id": ran, "name": "bash_code_execution"}, {"command": f"python {PROGRAM}"})
    if not run.pending:
        sheet.whole(_ran(ran, run))


def _ran(name: str, run: Run) -> Object:
    made: list[Json] = [{"type": "bash_code_execution_output", "file_id": file_id} for file_id in run.made]
    result: Object = {
        "type": "bash_code_execution_result",
        "stdout": run.prints,
        "stderr": "",
        "return_code": 0,
        "content": made,
    }
    return {"type": "bash_code_execution_tool_result", "tool_use_id": name, "content": result}


def _page(url: str) -> str:
    return f"The page at {url} says what such pages say: first what it is about, then the details, then the sources."


def _title(url: str) -> str:
    return f"The page {url.removeprefix('https://')}"[:SHOWN]


def _id(seed: str, what: str) -> str:
    return f"srvtoolu_01{_digest(seed + what).hex()[:22]}"


def _digest(said: str) -> bytes:
    return sha256(said.encode("utf-8", "replace")).digest()
