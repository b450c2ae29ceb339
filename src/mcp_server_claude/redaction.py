"""Redaction of API keys and other secrets from every text that leaves the process."""

from __future__ import annotations

import re

from mcp_server_claude.lone_surrogates import replace_lone_surrogates

API_KEY_PATTERN = re.compile(r"\bsk-(?:ant-[\w-]+|[\w-]{20,})")
"""Anthropic's keys, and what gateways (LiteLLM, OpenRouter) make in their likeness."""
MIN_SECRET_CHARS = 8
"""A shorter key is what a gateway gets that wants none; `any` would be found in every text."""
MAX_SANITIZED_CHARS = 300
"""Characters of the API's own message that are passed on."""
_secrets: set[str] = set()


def register_secret(secret: str) -> None:
    """Have `redact` remove this secret from now on: a gateway's key does not look like Anthropic's."""
    _secrets.update(part for part in secret.split() if len(part) >= MIN_SECRET_CHARS)


def redact(text: str) -> str:
    """The text without registered secrets and without what looks like an API key."""
    for secret in sorted(_secrets, key=len, reverse=True):
        if secret.startswith("sk-ant-"):  # it may be the beginning of another key
            text = re.sub(re.escape(secret) + r"[\w-]*", "sk-ant-…", text)
        else:
            text = text.replace(secret, "…")
    return API_KEY_PATTERN.sub(lambda found: "sk-ant-…" if found[0].startswith("sk-ant-") else "sk-…", text)


def holds_key(text: str) -> bool:
    """True if the text holds a registered secret or what looks like an API key."""
    return redact(text) != text


def sanitize(text: str, max_chars: int = MAX_SANITIZED_CHARS) -> str:
    """The text as one line that can be logged and shown: without keys, control characters and lone surrogates.

    Control characters, escape sequences and bidirectional overrides become U+FFFD. A longer text is cut at `max_chars`.
    """
    line = printable(" ".join(replace_lone_surrogates(redact(text)).split()))
    return line if len(line) <= max_chars else f"{line[:max_chars]}…"


def printable(text: str) -> str:
    """The text with each character that does not print (control, format, surrogate) replaced by U+FFFD."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
