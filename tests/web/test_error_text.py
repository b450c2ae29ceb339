from __future__ import annotations

import pytest

from mcp_server_claude.anthropic_api.credentials import HOW_TO_SET_KEY
from mcp_server_claude.errors import ConfigurationError, RequestError, TemporaryError
from mcp_server_claude.web.error_text import HOW_TO_SET_SERVER_KEY, error_text

NO_KEY = ConfigurationError(f"There is no API key. {HOW_TO_SET_KEY}", kind="no_key")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NO_KEY, "There is no API key. Tell the operator of this server."),
        (
            ConfigurationError(
                "https://x.example does not accept the API key. Check the key that `mcp-server-claude doctor` names.",
                kind="authentication",
            ),
            "https://x.example does not accept the API key. Tell the operator of this server.",
        ),
        (
            ConfigurationError("MCP_CLAUDE_EFFORT is not one of low, high.", kind="settings"),
            "A setting is invalid. Tell the operator of this server.",
        ),
        (
            RequestError("This server keeps no threads (MCP_CLAUDE_RETENTION_DAYS=0). Ask without one."),
            "This server keeps no threads. Ask without one.",
        ),
        (
            RequestError("This server may read no files: its operator has named no directory in MCP_CLAUDE_ROOTS."),
            "This server may read no files: its operator has named no directory.",
        ),
        (TemporaryError("Claude is overloaded. Try again."), "Claude is overloaded. Try again."),
    ],
)
def test_a_user_reads_of_no_setting_and_no_command(error: RequestError, text: str) -> None:
    assert error_text(error, "user") == text


def test_an_operator_reads_which_setting_to_change_on_a_server() -> None:
    assert error_text(NO_KEY, "operator") == f"There is no API key. {HOW_TO_SET_SERVER_KEY}"
    other = RequestError("This server keeps no threads (MCP_CLAUDE_RETENTION_DAYS=0).")
    assert error_text(other, "operator") == str(other)
