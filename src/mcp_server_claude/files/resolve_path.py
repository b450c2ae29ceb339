"""From a name that a caller gave to a spot below a root, and from a way that ended to a sentence that helps."""

from __future__ import annotations

import difflib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import sandbox, secret_names
from mcp_server_claude.files.name_quoting import ALLOW_FILES_SETTING, quote_name, quote_names, roots_sentence
from mcp_server_claude.files.sandbox import Roots, SandboxError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from mcp_server_claude.files.roots import FilePolicy
    from mcp_server_claude.files.sandbox import OpenFile, RootedPath

MAX_PATH_CHARS = 4_096
MAX_COMPARED_ENTRIES = 5_000
MAX_SUGGESTION_DEPTH = 12


def resolve_name(name: str, policy: FilePolicy, roots: Roots) -> RootedPath:
    """Where a name points to: relative to the first root, absolute, or `~/…` where that is in a root. Reads nothing.

    Raises:
        RequestError: it is no path, leaves the roots, or looks like a secret.
    """
    _check_name(name)
    if not policy.roots:
        raise RequestError(roots_sentence(policy))
    found = (
        _resolve_home(name, roots)
        if name.startswith(("~/", "~" + os.sep))
        else roots.locate(absolute_path(name, roots))
    )
    if found is None:
        raise RequestError(f"{quote_name(name)} is outside of what may be read. {roots_sentence(policy)}")
    check_secret_name(found, name, policy)
    return found


def absolute_path(name: str, roots: Roots) -> str:
    """The absolute path that a name means, by its text alone."""
    return sandbox.normalize_path(os.path.join(roots.directories[0][0], name))  # noqa: PTH118 - the fence's currency is strings


def check_secret_name(rooted_path: RootedPath, name: str, policy: FilePolicy) -> None:
    """Refuse what looks like a secret.

    Raises:
        RequestError: it does, and the operator has not named it.
    """
    pattern = secret_names.matching_pattern(rooted_path.parts, policy.allow_secret_names)
    if pattern:
        raise RequestError(
            f"{quote_name(name)} is not read: by its name ({pattern}) it may hold a secret. "
            f"If it holds none, the operator can allow that name in {ALLOW_FILES_SETTING}."
        )


@contextmanager
def open_named(name: str, policy: FilePolicy, roots: Roots) -> Generator[OpenFile]:
    """What a caller named, open for reading.

    Raises:
        RequestError: it cannot be read, and why.
    """
    asked = resolve_name(name, policy, roots)
    try:
        with sandbox.open_in_roots(asked, roots) as found:
            check_secret_name(found.rooted_path, name, policy)
            yield found
    except SandboxError as blocked:
        raise explain_sandbox_error(name, blocked, policy, roots) from None


def explain_sandbox_error(name: str, error: SandboxError, policy: FilePolicy, roots: Roots) -> RequestError:
    """Why a way ended, so that a caller can correct itself in one turn."""
    said = quote_name(name)
    match error.reason:
        case "missing":
            return RequestError(f"There is no {said}.{_suggest_names(name, error, policy, roots)}", kind="not_found")
        case "outside":
            return RequestError(f"{said} is a link that leads outside of what may be read. {roots_sentence(policy)}")
        case "links":
            return RequestError(f"{said} is a link to itself, or one of too many.")
        case "special":
            return RequestError(f"{said} is not a regular file (a device, a pipe, a socket or part of the system).")
        case "within_file":
            return RequestError(
                f"{said} leads through {quote_name(error.component)}, which is a file, not a directory."
            )
        case "changed":
            return RequestError(f"{said} was replaced while it was being opened. Try again.")
        case "denied":
            return RequestError(f"This server may not read {said} (file permissions).")
        case "name":
            return RequestError(f"{said} is not a path that this system can have.")
        case "trouble":
            return RequestError(f"{said} could not be read.")


def is_directory_error(name: str, open_file: OpenFile) -> RequestError:
    """What to name instead of a directory."""
    inside = sorted(open_file.list_entries(MAX_COMPARED_ENTRIES))
    names = [each + "/" * is_directory for each, is_directory in inside if not each.startswith(".")]
    within = f" It holds {quote_names(names)}." if names else " It is empty."
    stem = name.rstrip("/")
    return RequestError(
        f"{quote_name(name)} is a directory. Name files, or a glob such as {quote_name(stem + '/**/*')}.{within}"
    )


def _check_name(name: str) -> None:
    if not name.strip():
        raise RequestError("A file's name is empty.")
    if len(name) > MAX_PATH_CHARS:
        raise RequestError(f"A name of {len(name):,} characters is no path: {quote_name(name, 40)}.")
    if "\0" in name:
        raise RequestError(f"{quote_name(name)} is no path: it holds a zero character.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise RequestError(f"{quote_name(name)} is no path: it is not well-formed Unicode.") from None


def _resolve_home(name: str, roots: Roots) -> RootedPath | None:
    try:
        return roots.locate(sandbox.normalize_path(str(Path(name).expanduser())))
    except (RuntimeError, ValueError):
        return None


def _suggest_names(name: str, error: SandboxError, policy: FilePolicy, roots: Roots) -> str:
    """What a caller may have meant: near names on the way, the rest of the path followed as far as it is there."""
    found: list[str] = []
    asked = roots.locate(absolute_path(name, roots))
    rest = asked.parts[len(error.directory.parts) + 1 :] if asked else ()
    for near in _similar_names(error.directory, error.component, policy, roots, limit=3):
        at = _follow_similar(error.directory.joinpath(near), rest, policy, roots)
        found.append(roots.display_path(at))
    if found:
        others = f" Others: {quote_names(found[1:])}." if found[1:] else ""
        return f" The nearest is {quote_name(found[0])}.{others} {roots_sentence(policy)}"
    beside = sorted(
        each + "/" * is_directory
        for each, is_directory in sandbox.readable_entries(error.directory, roots, MAX_COMPARED_ENTRIES)
        if not each.startswith(".")
        and not secret_names.matching_pattern((*error.directory.parts, each), policy.allow_secret_names)
    )
    there = f" {quote_name(roots.display_path(error.directory))} holds {quote_names(beside)}." if beside else ""
    return f"{there} {roots_sentence(policy)}"


def _follow_similar(at: RootedPath, rest: Sequence[str], policy: FilePolicy, roots: Roots) -> RootedPath:
    for part in rest[:MAX_SUGGESTION_DEPTH]:
        near = _similar_names(at, part, policy, roots, limit=1)
        if not near:
            break
        at = at.joinpath(near[0])
    return at


def _similar_names(at: RootedPath, part: str, policy: FilePolicy, roots: Roots, *, limit: int) -> list[str]:
    """Names in a directory that are like `part`; secrets are not told."""
    names = {
        each.lower(): each
        for each, _ in sandbox.readable_entries(at, roots, MAX_COMPARED_ENTRIES)
        if not secret_names.matching_pattern((*at.parts, each), policy.allow_secret_names)
    }
    close = difflib.get_close_matches(part.lower()[:255], names, n=limit, cutoff=0.6)
    return [names[each] for each in close]
