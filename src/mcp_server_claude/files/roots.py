"""The policy on reading files: the roots, the limits, and the secret-looking names that the operator allows."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from mcp_server_claude.files import secret_names
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@frozen_dataclass(kw_only=True)
class FilePolicy:
    """The files that a call may read, and how much of them.

    `allow_secret_names` are globs of secret-looking names or paths that may be read nevertheless. `max_file_bytes`
    bounds one file on disk, `max_total_bytes` all files as they are sent (base64 and JSON included; the rest of a
    request's 32 MB is for the prompt and the thread), `max_text_chars` all text together (a little more than a million
    tokens, the largest context of today's models). `for_code` allows files that Claude cannot be shown, for code to
    read; without it `hint` is a sentence, after a space, that says why they are not allowed. Without `any_file_id`,
    only files of the Files API that this server issued to the user are sent on.
    """

    roots: tuple[Path, ...]
    allow_secret_names: tuple[str, ...] = ()
    max_files: int = 100
    max_file_bytes: int = 30_000_000
    max_total_bytes: int = 30_000_000
    max_text_chars: int = 4_000_000
    any_file_id: bool = True
    for_code: bool = False
    hint: str = ""


def roots_for(*, cwd: Path, project_dir: str, operator_roots: Sequence[Path], http: bool) -> tuple[Path, ...]:
    """The real paths of the directories that may be read; relative names start from the first.

    On stdio the first is `project_dir` (`CLAUDE_PROJECT_DIR`), else `cwd`, unless that is too broad for a project: `/`,
    a drive, the home directory or one above it, a directory of the system or of secrets. The `operator_roots` follow,
    whatever they are. Over HTTP there are only those. Directories that do not exist are left out.
    """
    roots: list[Path] = []
    if not http:
        bases = [Path(project_dir)] if project_dir and Path(project_dir).is_absolute() else []
        roots += [real for base in (*bases, cwd) if (real := _real_directory(base)) and not _is_too_broad(real)][:1]
    for path in operator_roots:
        real = _real_directory(cwd / _expand_user(path))
        roots += [real] if real else []
    return tuple(dict.fromkeys(roots))


def _real_directory(path: Path) -> Path | None:
    try:
        real = Path(os.path.realpath(path))
        return real if real.is_dir() else None
    except (OSError, ValueError):
        return None


def _expand_user(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # no home directory
        return path


SYSTEM_TREES = tuple(
    map(
        Path,
        (
            *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys"),
            *("/usr/bin", "/usr/include", "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/sbin", "/usr/share"),
            *("/var/backups", "/var/cache", "/var/db", "/var/lib", "/var/log", "/var/run", "/var/spool"),
            *("/private/etc", "/private/var/db", "/private/var/log", "/System", "/Library", "/Applications"),
        ),
    )
)
"""Directories of the system; nothing in them is a project."""

SYSTEM_DIRECTORIES = tuple(
    map(
        Path,
        (
            *("/home", "/media", "/mnt", "/opt", "/private", "/private/tmp", "/private/var", "/root", "/srv", "/tmp"),  # noqa: S108
            *("/usr", "/usr/local", "/usr/src", "/var", "/Users", "/Volumes"),
        ),
    )
)
"""Directories that are too broad themselves, though a project may lie in them (`/usr/src/app`, `/tmp/try`)."""


def _is_too_broad(real: Path) -> bool:
    ancestors, home = (real, *real.parents), _real_directory(_expand_user(Path("~")))
    return (
        real == Path(real.anchor)
        or _have_same_directory((real,), SYSTEM_DIRECTORIES)
        or _have_same_directory(ancestors, SYSTEM_TREES)
        or (home is not None and _have_same_directory((real,), (home, *home.parents)))
        or secret_names.private_directory(real.parts) != ""
        or (sys.platform == "win32" and _is_windows_system(real))
    )


def _have_same_directory(paths: Iterable[Path], others: Iterable[Path]) -> bool:
    """True if one of the paths is one of the others, by its text or by what the file system says.

    `/users/ada` is `/Users/ada` where case makes no difference, and no system call returns the name on the disk.
    """
    paths, others = {*paths}, {*others}
    return not (paths.isdisjoint(others) and _directory_ids(paths).isdisjoint(_directory_ids(others)))


def _directory_ids(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """The device and inode of those of the paths that exist; none on file systems without inodes."""
    found: set[tuple[int, int]] = set()
    for path in paths:
        with suppress(OSError, ValueError):
            status = path.stat()
            found |= {(status.st_dev, status.st_ino)} if status.st_ino else set()
    return found


def _is_windows_system(real: PurePath) -> bool:
    inside = [part.lower() for part in real.parts[1:]]
    return inside[:1] in (["windows"], ["program files"], ["program files (x86)"]) or inside in (
        ["users"],
        ["programdata"],
    )
