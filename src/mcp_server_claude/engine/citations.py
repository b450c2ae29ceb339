"""The citations of an answer, as data and as a list of sources under its text."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from mcp_server_claude.call_types import Citation
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.redaction import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.call_types import Block


def extract_citations(blocks: Sequence[Block]) -> tuple[Citation, ...]:
    """The citations of an answer's text blocks, in their order.

    A search result is cited by its address, a fetched page by its title. An address that does not print is left out.
    """
    pages = _fetched_page_urls(blocks)
    citations: list[Citation] = []
    for block in blocks:
        for each in cast("list[dict[str, object]]", block.get("citations") or []):
            title = _text(each.get("title")) or _text(each.get("document_title"))
            url = each.get("url") or pages.get(title)
            if isinstance(url, str) and url.isprintable() and url.startswith(("https://", "http://")):
                citations.append(Citation(url=url, title=printable(title), cited_text=_text(each.get("cited_text"))))
    return tuple(citations)


def sources_markdown(citations: Sequence[Citation]) -> str:
    """A numbered Markdown list with each page once; empty if nothing is cited."""
    titles: dict[str, str] = {}
    for each in citations:
        titles[each.url] = titles.get(each.url) or each.title
    lines = [
        f"{number}. [{_link_text(title) or url}]({_escaped_url(url)})"
        for number, (url, title) in enumerate(titles.items(), 1)
    ]
    return "\n\nSources:\n\n" + "\n".join(lines) if lines else ""


def _fetched_page_urls(blocks: Sequence[Block]) -> dict[str, str]:
    """The addresses of fetched pages, by title."""
    urls: dict[str, str] = {}
    for block in blocks:
        page = block.get("content")
        if block.get("type") == "web_fetch_tool_result" and isinstance(page, dict):
            fetched = cast("dict[str, object]", page)
            document = fetched.get("content")
            title = _text(cast("dict[str, object]", document).get("title")) if isinstance(document, dict) else ""
            if title:
                urls.setdefault(title, _text(fetched.get("url")))
    return urls


def _text(value: object) -> str:
    return replace_lone_surrogates(value) if isinstance(value, str) else ""


def _link_text(title: str) -> str:
    """A title from the web as one line that cannot end its Markdown link."""
    return " ".join(title.replace("[", "(").replace("]", ")").split())[:200]


def _escaped_url(url: str) -> str:
    return url.replace("(", "%28").replace(")", "%29").replace(" ", "%20")
