from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.anthropic_api.credentials import HOW_TO_SET_KEY
from mcp_server_claude.errors import ConfigurationError, RequestError, TemporaryError, UnknownIdError
from mcp_server_claude.web.error_text import HOW_TO_SET_SERVER_KEY, error_text

if TYPE_CHECKING:
    from mcp_server_claude.users.user import Role

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
            RequestError(
                "This server cannot read files: its operator has configured no directory in MCP_CLAUDE_ROOTS."
            ),
            "This server cannot read files: its operator has configured no directory.",
        ),
        (TemporaryError("Claude is overloaded. Try again."), "Claude is overloaded. Try again."),
    ],
)
def test_a_user_reads_of_no_setting_and_no_command(error: RequestError, text: str) -> None:
    assert error_text(error, "user") == text


@pytest.mark.parametrize("role", ["user", "operator"])
def test_a_client_over_http_reads_of_routes_and_of_no_tool(role: Role) -> None:
    assert error_text(UnknownIdError("job"), role) == "There is no job with that id. GET /jobs lists the latest."
    assert error_text(UnknownIdError("call"), role) == "There is no call with that id."
    assert error_text(UnknownIdError("thread", "; threads are kept for 30 days"), role) == (
        "There is no thread with that id; threads are kept for 30 days. GET /threads.json lists the latest; leave "
        "thread out to begin a new one."
    )


def test_an_operator_reads_which_setting_to_change_on_a_server() -> None:
    assert error_text(NO_KEY, "operator") == f"There is no API key. {HOW_TO_SET_SERVER_KEY}"
    other = RequestError("This server keeps no threads (MCP_CLAUDE_RETENTION_DAYS=0).")
    assert error_text(other, "operator") == str(other)
