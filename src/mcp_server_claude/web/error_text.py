"""The text of an error for its reader: an operator can change settings, a user can only inform the operator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mcp_server_claude.anthropic_api.credentials import HOW_TO_SET_KEY
from mcp_server_claude.errors import KINDS, ConfigurationError, UnknownIdError

if TYPE_CHECKING:
    from mcp_server_claude.errors import CallError
    from mcp_server_claude.users.user import Role

HOW_TO_SET_SERVER_KEY = (
    "Set MCP_CLAUDE_API_KEY in the environment of this server and restart it; keys are made in the Anthropic Console."
)
"""Replaces `HOW_TO_SET_KEY`, which is for a server that an MCP client starts."""
ID_HINTS = {
    "call": "",
    "job": "GET /jobs lists the latest.",
    "thread": "GET /threads.json lists the latest; leave thread out to begin a new one.",
}
"""Where a client over HTTP finds the ids."""
TELL_OPERATOR = "Tell the operator of this server."

_SETTING = r"\b(?:MCP_CLAUDE_|ANTHROPIC_|OTEL_)[A-Z0-9_]+|\bSSL[_A-Z]{8,}|\b[A-Za-z]+_(?:PROXY|proxy)\b"
_SETTING_OR_COMMAND = re.compile(rf"{_SETTING}|`mcp-server-claude\b|mcp-server-claude\[")
_ASIDE = re.compile(rf" \([^()]*(?:{_SETTING})[^()]*\)| in (?:{_SETTING})(?=[.,;])")
"""A setting that a sentence can do without: in parentheses, or as "in MCP_CLAUDE_ROOTS"."""
_SENTENCE_END = re.compile(r"(?<=[.!?]) +(?=[A-Z\"`0-9])")


def error_text(failure: CallError, role: Role) -> str:
    """The text for a reader in this role. A user reads of no setting and no command of the server."""
    if isinstance(failure, UnknownIdError):
        return f"{failure} {ID_HINTS[failure.thing]}".strip()
    if role == "operator":
        return str(failure).replace(HOW_TO_SET_KEY, HOW_TO_SET_SERVER_KEY)
    sentences = _SENTENCE_END.split(_ASIDE.sub("", str(failure)))
    user_sentences = [sentence for sentence in sentences if not _SETTING_OR_COMMAND.search(sentence)]
    if not user_sentences:
        user_sentences = [KINDS[failure.kind][1] if failure.kind in KINDS else "The request could not be answered."]
    if isinstance(failure, ConfigurationError):
        user_sentences.append(TELL_OPERATOR)
    return " ".join(user_sentences)
