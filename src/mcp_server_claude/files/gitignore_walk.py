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
    from mcp_server_claude.files.sandbox import Ground, Spot

MOST_NAMES = 200_000
MOST_BYTES = 32_000_000
GIT_S = 10.0
WALK_S = 10.0
DEEPEST = 64
NESTED = 3
MOST_NESTED = 20


def files(base: Spot, ground: Ground) -> tuple[list[tuple[str, ...]], bool]:
    """The components of each file's path below `base`, sorted, and whether these are all."""
    by_git = _by_git(base.path, NESTED)
    if by_git is not None:
        names, whole = by_git
        return sorted(tuple(name.split("/")) for name in names), whole
    return _walked(base, ground)


def _by_git(directory: str, depth: int) -> tuple[set[str], bool] | None:
    """What git would show below a directory, None where it is not in a work tree or git cannot tell."""
    found = _git(directory, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if found is None:
        return None
    raw, whole = found
    names = [os.fsdecode(name) for name in raw.split(b"\0") if name]
    # Nothing there: then the directory itself may be ignored, and its files were asked for all the same.
    if not names and _git(directory, "check-ignore", "-q", ".") is not None:
        return None
    nested = [name for name in names if name.endswith("/")]  # a repository within, not a submodule
    listed = {name for name in names[:MOST_NAMES] if not name.endswith("/")}
    for inner in nested[:MOST_NESTED] if depth else ():
        within, all_within = _by_git(os.path.join(directory, inner), depth - 1) or (set[str](), False)  # noqa: PTH118
        listed |= {inner + name for name in within}
        whole = whole and all_within
    return listed, whole and len(names) <= MOST_NAMES and len(nested) <= MOST_NESTED


def _git(directory: str, *arguments: str) -> tuple[bytes, bool] | None:
    """What git prints and whether that is all; None when it fails, or there is no git."""
    git = shutil.which("git")
    if git is None:
        return None
    safe = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.untrackedCache=false", "protocol.allow=never")
    options = [part for each in (*safe, "safe.directory=*") for part in ("-c", each)]
    try:
        with helper_processes.started(
            [git, "--no-pager", *options, "-C", directory, *arguments], seconds=GIT_S, stdout=subprocess.PIPE
        ) as running:
            assert running.stdout is not None  # noqa: S101 - it is a pipe
            raw = running.stdout.read(MOST_BYTES)
            if len(raw) == MOST_BYTES:
                return raw[: raw.rfind(b"\0") + 1], False
            code = running.wait()
    except (OSError, ValueError):
        return None
    return (raw, True) if code == 0 else None


def _walked(base: Spot, ground: Ground) -> tuple[list[tuple[str, ...]], bool]:
    """All files below a directory but hidden ones, found without following a link."""
    found: list[tuple[str, ...]] = []
    waiting: list[tuple[str, ...]] = [()]
    seen, until, whole = 0, time.monotonic() + WALK_S, True
    while waiting:
        here = waiting.pop()
        inside = sandbox.entries(base.below(*here), ground, MOST_NAMES - seen + 1, follow=False)
        seen += len(inside)
        if seen > MOST_NAMES or time.monotonic() > until:
            return sorted(found), False
        for name, is_directory in inside:
            if name.startswith("."):
                continue
            if not is_directory:
                found.append((*here, name))
            elif len(here) < DEEPEST:
                waiting.append((*here, name))
            else:
                whole = False
    return sorted(found), whole
