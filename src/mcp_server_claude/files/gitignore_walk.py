"""Lists the files below a directory for globs: in a git work tree those that git does not ignore, else all but hidden.

The list only proposes names. Every file is opened through `sandbox`, so a list that is wrong or forged exposes nothing.
git runs without anything that a repository's own configuration could make it execute (`core.fsmonitor`, hooks,
transports), without our environment, and for a bounded time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from mcp_server_claude.files import helper_processes, sandbox

if TYPE_CHECKING:
    from mcp_server_claude.files.helper_processes import RunLimit
    from mcp_server_claude.files.sandbox import RootedPath, Roots

MAX_FILE_NAMES = 200_000
MAX_GIT_OUTPUT_BYTES = 32_000_000
GIT_TIMEOUT_S = 10.0
WALK_TIMEOUT_S = 10.0
MAX_WALK_DEPTH = 64
MAX_NESTED_REPOSITORY_DEPTH = 3
MAX_NESTED_REPOSITORIES = 20


def walk_files(base: RootedPath, roots: Roots, limit: RunLimit) -> tuple[list[tuple[str, ...]], bool]:
    """The components of each file's path below `base`, sorted, and whether these are all files."""
    by_git = _list_by_git(base.path, MAX_NESTED_REPOSITORY_DEPTH, limit)
    if by_git is not None:
        names, complete = by_git
        return sorted(tuple(name.split("/")) for name in names), complete
    return _list_by_walking(base, roots, limit)


def _list_by_git(directory: str, depth: int, limit: RunLimit) -> tuple[set[str], bool] | None:
    """The files that git shows below a directory; None outside of a work tree, or when git fails."""
    output = _run_git(directory, limit, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if output is None:
        return None
    raw, complete = output
    names = [os.fsdecode(name) for name in raw.split(b"\0") if name]
    # Nothing listed: the directory itself may be ignored, though its files were asked for by name.
    if not names and _run_git(directory, limit, "check-ignore", "-q", ".") is not None:
        return None
    nested = [name for name in names if name.endswith("/")]  # a repository within that is no submodule
    listed = {name for name in names[:MAX_FILE_NAMES] if not name.endswith("/")}
    for inner in nested[:MAX_NESTED_REPOSITORIES] if depth else ():
        path = os.path.join(directory, inner)  # noqa: PTH118 - plain strings, as in `sandbox`
        within, all_within = _list_by_git(path, depth - 1, limit) or (set[str](), False)
        listed |= {inner + name for name in within}
        complete = complete and all_within
    return listed, complete and len(names) <= MAX_FILE_NAMES and len(nested) <= MAX_NESTED_REPOSITORIES


def _run_git(directory: str, limit: RunLimit, *arguments: str) -> tuple[bytes, bool] | None:
    """The output of git and whether that is all of it; None when git fails or is not installed."""
    git = shutil.which("git")
    if git is None:
        return None
    safe = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.untrackedCache=false", "protocol.allow=never")
    options = [part for each in (*safe, "safe.directory=*") for part in ("-c", each)]
    command = [git, "--no-pager", *options, "-C", directory, *arguments]
    try:
        with helper_processes.helper_process(
            command, timeout_s=GIT_TIMEOUT_S, limit=limit, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            raw = process.stdout.read(MAX_GIT_OUTPUT_BYTES)
            if len(raw) == MAX_GIT_OUTPUT_BYTES:
                return raw[: raw.rfind(b"\0") + 1], False
            code = process.wait()
    except (OSError, ValueError):
        return None
    return (raw, True) if code == 0 else None


def _list_by_walking(base: RootedPath, roots: Roots, limit: RunLimit) -> tuple[list[tuple[str, ...]], bool]:
    """All files below a directory but hidden ones, found without following links."""
    files: list[tuple[str, ...]] = []
    pending: list[tuple[str, ...]] = [()]
    count, complete = 0, True
    deadline = time.monotonic() + limit.remaining_s(WALK_TIMEOUT_S)
    while pending:
        directory = pending.pop()
        entries = sandbox.readable_entries(base.joinpath(*directory), roots, MAX_FILE_NAMES - count + 1, follow=False)
        count += len(entries)
        if count > MAX_FILE_NAMES or time.monotonic() > deadline or not limit.remaining_s():
            return sorted(files), False
        for name, is_directory in entries:
            if name.startswith("."):
                continue
            if not is_directory:
                files.append((*directory, name))
            elif len(directory) < MAX_WALK_DEPTH:
                pending.append((*directory, name))
            else:
                complete = False
    return sorted(files), complete
