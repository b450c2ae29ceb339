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
LICENCE_LINK = re.compile(r"\[([^]]+)\]\((?:../)?LICENSE\)")
MERMAID = ROOT / "build" / "mermaid" / "package" / "dist" / "mermaid.min.js"
"""The library that draws the diagrams, as `scripts/docs` fetched it; without it browsers load it from a public host."""
PARENT_LINK = re.compile(r"\]\(\.\./(?=[^)]*\.md)")
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
    markdown = LICENCE_LINK.sub(r"\1", markdown)
    up = "../" * page.file.src_uri.count("/")
    if page.file.src_uri in OUTSIDE_PAGES:
        return DOCS_LINK.sub(f"]({up}", markdown)
    return PARENT_LINK.sub("](", markdown)
