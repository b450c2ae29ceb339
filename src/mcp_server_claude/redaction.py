"""API keys and other secrets, removed from every text that leaves the process."""

from __future__ import annotations

import re

from mcp_server_claude.lone_surrogates import replace_lone_surrogates

API_KEY_PATTERN = re.compile(r"sk-ant-[\w-]+")
MIN_SECRET_CHARS = 8
"""A key of fewer characters is what a gateway is given that wants none; `has_users` would be found everywhere."""
_secrets: set[str] = set()
MAX_SANITIZED_CHARS = 300
"""Characters of the API's own message that are passed on."""


def register_secret(secret: str) -> None:
    """From now on `redact` knows this key too: a gateway's does not look like Anthropic's."""
    _secrets.update(part for part in secret.split() if len(part) >= MIN_SECRET_CHARS)


def redact(text: str) -> str:
    """Text without keys: those in use, and whatever looks like one of Anthropic's."""
    for key in sorted(_secrets, key=len, reverse=True):
        text = text.replace(key, "sk-ant-…" if key.startswith("sk-ant-") else "…")
    return API_KEY_PATTERN.sub("sk-ant-…", text)


def sanitize(text: str) -> str:
    """Text without keys, without lone surrogates, on one line, of a length that a reader can bear."""
    line = " ".join(replace_lone_surrogates(redact(text)).split())
    return line if len(line) <= MAX_SANITIZED_CHARS else f"{line[:MAX_SANITIZED_CHARS]}…"
