"""API keys and other secrets, removed from every text that leaves the process."""

from __future__ import annotations

import re

from mcp_server_claude.lone_surrogates import replace_lone_surrogates

SECRET = re.compile(r"sk-ant-[\w-]+")
SHORTEST_SECRET = 8
"""A key of fewer characters is what a gateway is given that wants none; `any` would be found everywhere."""
_hidden: set[str] = set()
LONGEST = 300
"""Characters of the API's own message that are passed on."""


def hide(key: str) -> None:
    """From now on `redact` knows this key too: a gateway's does not look like Anthropic's."""
    _hidden.update(part for part in key.split() if len(part) >= SHORTEST_SECRET)


def redact(text: str) -> str:
    """Text without keys: those in use, and whatever looks like one of Anthropic's."""
    for key in sorted(_hidden, key=len, reverse=True):
        text = text.replace(key, "sk-ant-…" if key.startswith("sk-ant-") else "…")
    return SECRET.sub("sk-ant-…", text)


def scrub(text: str) -> str:
    """Text without keys, without lone surrogates, on one line, of a length that a reader can bear."""
    line = " ".join(replace_lone_surrogates(redact(text)).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
