"""Resolves a name that a caller gave to an open file below a root, and explains why a name cannot be resolved."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import sandbox, secret_names
from mcp_server_claude.files.name_quoting import ALLOW_FILES_SETTING, quote_name, quote_names, roots_sentence
from mcp_server_claude.files.path_spellings import path_spellings
from mcp_server_claude.files.sandbox import Roots, SandboxError
from mcp_server_claude.name_suggestions import similar_names

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from mcp_server_claude.files.path_spellings import NamedPath
    from mcp_server_claude.files.roots import FilePolicy
    from mcp_server_claude.files.sandbox import OpenFile, RootedPath

MAX_PATH_CHARS = 4_096
MAX_COMPARED_ENTRIES = 5_000
MAX_SUGGESTION_DEPTH = 12


def choose_spelling(name: str, policy: FilePolicy, roots: Roots) -> NamedPath:
    """The first of the ways to read a name (`@path`, `path:10-20`, `file:` URI) that leads to a file; where none does,
    the one with everything understood.

    Raises:
        RequestError: It is a `file:` URI of another machine.
    """
    spellings = path_spellings(name)
    existing = (each for each in spellings[:-1] if exists(each.path, policy, roots))
    return next(existing, spellings[-1])


def exists(name: str, policy: FilePolicy, roots: Roots) -> bool:
    """True if a name leads to a file or directory that may be read."""
    try:
        with open_named(name, policy, roots):
            return True
    except RequestError:
        return False


def resolve_name(name: str, policy: FilePolicy, roots: Roots) -> RootedPath:
    """The path of a name: relative to the first root, absolute, or `~/…` where that is in a root. Reads nothing.

    Raises:
        RequestError: It is no path, leaves the roots, or looks like a secret.
    """
    _check_name(name)
    if not policy.roots:
        raise RequestError(roots_sentence(policy))
    is_home = name.startswith(("~/", "~" + os.sep))
    rooted_path = _resolve_home(name, roots) if is_home else roots.locate(absolute_path(name, roots))
    if rooted_path is None:
        raise RequestError(f"{quote_name(name)} is outside the directories that may be read. {roots_sentence(policy)}")
    check_secret_name(rooted_path, name, policy)
    return rooted_path


def absolute_path(name: str, roots: Roots) -> str:
    """The absolute path of a name, by its text alone."""
    return sandbox.normalize_path(os.path.join(roots.directories[0][0], name))  # noqa: PTH118 - strings, as in `sandbox`


def check_secret_name(rooted_path: RootedPath, name: str, policy: FilePolicy) -> None:
    """Refuse a path that looks like a secret.

    Raises:
        RequestError: It does, and the operator has not allowed it.
    """
    pattern = secret_names.matching_pattern(rooted_path.parts, policy.allow_secret_names)
    if pattern:
        raise RequestError(
            f"{quote_name(name)} is not read: judging by its name ({pattern}) it may contain a secret. "
            f"If it does not, the operator can allow that name in {ALLOW_FILES_SETTING}."
        )


@contextmanager
def open_named(name: str, policy: FilePolicy, roots: Roots) -> Generator[OpenFile]:
    """The file or directory of a name, open for reading.

    Raises:
        RequestError: It cannot be read; the message says why and what is near.
    """
    rooted_path = resolve_name(name, policy, roots)
    try:
        with sandbox.open_in_roots(rooted_path, roots) as file:
            check_secret_name(file.rooted_path, name, policy)
            yield file
    except SandboxError as error:
        raise explain_sandbox_error(name, error, policy, roots) from None


def explain_sandbox_error(name: str, error: SandboxError, policy: FilePolicy, roots: Roots) -> RequestError:
    """The reason why a path could not be opened, in a sentence with which a caller can correct it."""
    quoted = quote_name(name)
    match error.reason:
        case "missing":
            return RequestError(f"There is no {quoted}.{_suggest_names(name, error, policy, roots)}", kind="not_found")
        case "outside":
            return RequestError(
                f"{quoted} is a link that leads outside the directories that may be read. {roots_sentence(policy)}"
            )
        case "links":
            return RequestError(f"{quoted} is a link to itself, or one of too many.")
        case "special":
            return RequestError(f"{quoted} is not a regular file (a device, a pipe, a socket or part of the system).")
        case "within_file":
            part = quote_name(error.component)
            return RequestError(f"{quoted} leads through {part}, which is a file, not a directory.")
        case "changed":
            return RequestError(f"{quoted} was replaced while it was being opened. Try again.")
        case "denied":
            return RequestError(f"This server may not read {quoted} (file permissions).")
        case "name":
            return RequestError(f"{quoted} is not a valid path on this system.")
        case "trouble":
            return RequestError(f"{quoted} could not be read.")


def is_directory_error(name: str, directory: OpenFile) -> RequestError:
    """The error for a directory where a file is needed; it names what is in the directory."""
    entries = sorted(directory.list_entries(MAX_COMPARED_ENTRIES))
    names = [entry + "/" * is_directory for entry, is_directory in entries if not entry.startswith(".")]
    content = f" It holds {quote_names(names)}." if names else " It is empty."
    glob = quote_name(name.rstrip("/") + "/**/*")
    return RequestError(f"{quote_name(name)} is a directory. Name files, or a glob such as {glob}.{content}")


def _check_name(name: str) -> None:
    if not name.strip():
        raise RequestError("The name of a file is empty.")
    if len(name) > MAX_PATH_CHARS:
        raise RequestError(f"A name of {len(name):,} characters is not a path: {quote_name(name, 40)}.")
    if "\0" in name:
        raise RequestError(f"{quote_name(name)} is not a path: it contains a NUL character.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise RequestError(f"{quote_name(name)} is not a path: it is not well-formed Unicode.") from None


def _resolve_home(name: str, roots: Roots) -> RootedPath | None:
    try:
        return roots.locate(sandbox.normalize_path(str(Path(name).expanduser())))
    except (RuntimeError, ValueError):
        return None


def _suggest_names(name: str, error: SandboxError, policy: FilePolicy, roots: Roots) -> str:
    """Names similar to the missing component, with the rest of the path followed as far as it exists."""
    requested = roots.locate(absolute_path(name, roots))
    rest = requested.parts[len(error.directory.parts) + 1 :] if requested else ()
    similar = [
        roots.display_path(_follow_similar(error.directory.joinpath(entry), rest, policy, roots))
        for entry in _similar_names(error.directory, error.component, policy, roots, limit=3)
    ]
    if similar:
        others = f" Others: {quote_names(similar[1:])}." if similar[1:] else ""
        return f" The nearest is {quote_name(similar[0])}.{others} {roots_sentence(policy)}"
    entries = sorted(
        entry + "/" * is_directory
        for entry, is_directory in sandbox.readable_entries(error.directory, roots, MAX_COMPARED_ENTRIES)
        if not entry.startswith(".")
        and not secret_names.matching_pattern((*error.directory.parts, entry), policy.allow_secret_names)
    )
    directory = quote_name(roots.display_path(error.directory))
    content = f" {directory} holds {quote_names(entries)}." if entries else ""
    return f"{content} {roots_sentence(policy)}"


def _follow_similar(rooted_path: RootedPath, rest: Sequence[str], policy: FilePolicy, roots: Roots) -> RootedPath:
    for component in rest[:MAX_SUGGESTION_DEPTH]:
        similar = _similar_names(rooted_path, component, policy, roots, limit=1)
        if not similar:
            break
        rooted_path = rooted_path.joinpath(similar[0])
    return rooted_path


def _similar_names(
    rooted_path: RootedPath, component: str, policy: FilePolicy, roots: Roots, *, limit: int
) -> list[str]:
    """Names in a directory that are like `component`, never those that look like secrets."""
    names = {
        entry.lower(): entry
        for entry, _ in sandbox.readable_entries(rooted_path, roots, MAX_COMPARED_ENTRIES)
        if not secret_names.matching_pattern((*rooted_path.parts, entry), policy.allow_secret_names)
    }
    close = similar_names(component.lower()[:255], names, limit=limit)
    return [names[each] for each in close]
