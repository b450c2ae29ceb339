"""The exit codes of the command line; those of errors are from sysexits.h."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.errors import ConfigurationError, RequestError, TemporaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.errors import CallError

EXIT_INCOMPLETE, EXIT_REQUEST, EXIT_TEMPORARY, EXIT_CONFIGURATION, EXIT_INTERRUPTED = 1, 2, 75, 78, 130

ERROR_EXIT_CODES: tuple[tuple[type[CallError], int], ...] = (
    (RequestError, EXIT_REQUEST),
    (TemporaryError, EXIT_TEMPORARY),  # EX_TEMPFAIL
    (ConfigurationError, EXIT_CONFIGURATION),  # EX_CONFIG
)
"""The exit code of each class of errors."""

EXIT_CODE_MEANINGS = {
    0: "success: a complete answer; all items answered",
    EXIT_INCOMPLETE: "an incomplete answer; some items missing or cut; an output of which the reader, "
    "e.g. `head`, took only a part; nothing found (`threads search`); "
    "a failed check (`doctor`); a question that was not answered with yes (`forget`); a bug",
    EXIT_REQUEST: "a wrong option or argument, a file that cannot be read or written, "
    "or a request that the API refuses",
    EXIT_TEMPORARY: "a temporary error, a used-up budget, a full disk: try again later",
    EXIT_CONFIGURATION: "a missing or wrong configuration: of the server, its database or this machine",
    EXIT_INTERRUPTED: "Ctrl-C",
}
"""The meaning of every exit code. The table in `docs/shell.md` is generated from it."""


def error_exit_code(failure: CallError) -> int:
    """The exit code of a command that ends with an error."""
    return next((code for error_class, code in ERROR_EXIT_CODES if isinstance(failure, error_class)), EXIT_INCOMPLETE)


def stored_error_exit_code(error: Mapping[str, object]) -> int:
    """The exit code of an error that is there as JSON values (`CallError.as_json`)."""
    name = error.get("class")
    return next((code for error_class, code in ERROR_EXIT_CODES if error_class.class_name == name), EXIT_INCOMPLETE)
