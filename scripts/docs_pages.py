"""Hooks of mkdocs: pages of the repository that live outside of `docs/`, and links that fit the site.

On the site every page lies below one root, so `../CHANGELOG.md` is `CHANGELOG.md` there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
OUTSIDE_PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CODE_OF_CONDUCT.md",
    "benchmarks/README.md",
)
MERMAID = ROOT / "build" / "mermaid" / "package" / "dist" / "mermaid.min.js"
"""The library that draws the diagrams, as `scripts/docs` fetched it; without it browsers load it from a public host."""
REPOSITORY_LINK = re.compile(r"\[([^]]+)\]\((?:\.\./)?([\w./-]+)(#[\w-]+)?\)")
SETTING_NAME = re.compile(r"(?<=<code>)[A-Z]+(?:_[A-Z]+){2,}(?=</code>)")
DOCS_LINK = re.compile(r"\]\((?:\.\./)?docs/")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Serve the library of the diagrams from the site itself."""
    if MERMAID.exists():
        config.extra_javascript.append("assets/mermaid.min.js")
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside of `docs/`."""
    for path in OUTSIDE_PAGES:
        files.append(File.generated(config, path, content=(ROOT / path).read_text(encoding="utf-8")))
    if MERMAID.exists():
        files.append(File.generated(config, "assets/mermaid.min.js", abs_src_path=str(MERMAID)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Point links between `docs/` and the rest of the repository to the pages of the site."""
    up = "../" * page.file.src_uri.count("/")
    if page.file.src_uri in OUTSIDE_PAGES:
        markdown = DOCS_LINK.sub(f"]({up}", markdown)
    return REPOSITORY_LINK.sub(_site_link, markdown)


def on_page_content(html: str, **_: object) -> str:
    """Let the names of settings break at their underscores in narrow columns of tables."""
    return SETTING_NAME.sub(lambda found: found[0].replace("_", "_<wbr>"), html)


def _site_link(found: re.Match[str]) -> str:
    """The link to a page of the site, or the text alone where the site has no such page, e.g. of a source file."""
    text, path, anchor = found.groups(default="")
    if path in OUTSIDE_PAGES:
        return f"[{text}]({path}{anchor})"
    return text if (ROOT / path).exists() and not (ROOT / "docs" / path).exists() else found[0]
