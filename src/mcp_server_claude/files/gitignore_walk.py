"""Which files are below a directory, for globs: those that git does not ignore, else all; never hidden ones.

The list only proposes names; what is read goes through `fence` like everything else, so a list that is wrong or forged
leads nowhere. git runs with what a repository's own configuration could make it execute switched off (`core.fsmonitor`,
hooks, transports), with nothing of our environment, and for a bounded time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

from mcp_server_claude.files import helper_processes, sandbox

if TYPE_CHECKING:
    from mcp_server_claude.files.sandbox import RootedPath, Roots

MAX_FILE_NAMES = 200_000
MAX_GIT_OUTPUT_BYTES = 32_000_000
GIT_TIMEOUT_S = 10.0
WALK_TIMEOUT_S = 10.0
MAX_WALK_DEPTH = 64
MAX_NESTED_REPOSITORY_DEPTH = 3
MAX_NESTED_REPOSITORIES = 20


def walk_files(base: RootedPath, roots: Roots) -> tuple[list[tuple[str, ...]], bool]:
    """The components of each file's path below `base`, sorted, and whether these are all."""
    by_git = _list_by_git(base.path, MAX_NESTED_REPOSITORY_DEPTH)
    if by_git is not None:
        names, whole = by_git
        return sorted(tuple(name.split("/")) for name in names), whole
    return _list_by_walking(base, roots)


def _list_by_git(directory: str, depth: int) -> tuple[set[str], bool] | None:
    """What git would show below a directory, None where it is not in a work tree or git cannot tell."""
    found = _run_git(directory, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if found is None:
        return None
    raw, whole = found
    names = [os.fsdecode(name) for name in raw.split(b"\0") if name]
    # Nothing there: then the directory itself may be ignored, and its files were asked for all the same.
    if not names and _run_git(directory, "check-ignore", "-q", ".") is not None:
        return None
    nested = [name for name in names if name.endswith("/")]  # a repository within, not a submodule
    listed = {name for name in names[:MAX_FILE_NAMES] if not name.endswith("/")}
    for inner in nested[:MAX_NESTED_REPOSITORIES] if depth else ():
        within, all_within = _list_by_git(os.path.join(directory, inner), depth - 1) or (set[str](), False)  # noqa: PTH118
        listed |= {inner + name for name in within}
        whole = whole and all_within
    return listed, whole and len(names) <= MAX_FILE_NAMES and len(nested) <= MAX_NESTED_REPOSITORIES


def _run_git(directory: str, *arguments: str) -> tuple[bytes, bool] | None:
    """What git prints and whether that is all; None when it fails, or there is no git."""
    git = shutil.which("git")
    if git is None:
        return None
    safe = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.untrackedCache=false", "protocol.allow=never")
    options = [part for each in (*safe, "safe.directory=*") for part in ("-c", each)]
    try:
        with helper_processes.helper_process(
            [git, "--no-pager", *options, "-C", directory, *arguments], timeout_s=GIT_TIMEOUT_S, stdout=subprocess.PIPE
        ) as running:
            assert running.stdout is not None  # noqa: S101 - it is a pipe
            raw = running.stdout.read(MAX_GIT_OUTPUT_BYTES)
            if len(raw) == MAX_GIT_OUTPUT_BYTES:
                return raw[: raw.rfind(b"\0") + 1], False
            code = running.wait()
    except (OSError, ValueError):
        return None
    return (raw, True) if code == 0 else None


def _list_by_walking(base: RootedPath, roots: Roots) -> tuple[list[tuple[str, ...]], bool]:
    """All files below a directory but hidden ones, found without following a link."""
    found: list[tuple[str, ...]] = []
    waiting: list[tuple[str, ...]] = [()]
    seen, until, whole = 0, time.monotonic() + WALK_TIMEOUT_S, True
    while waiting:
        here = waiting.pop()
        inside = sandbox.readable_entries(base.joinpath(*here), roots, MAX_FILE_NAMES - seen + 1, follow=False)
        seen += len(inside)
        if seen > MAX_FILE_NAMES or time.monotonic() > until:
            return sorted(found), False
        for name, is_directory in inside:
            if name.startswith("."):
                continue
            if not is_directory:
                found.append((*here, name))
            elif len(here) < MAX_WALK_DEPTH:
                waiting.append((*here, name))
            else:
                whole = False
    return sorted(found), whole
