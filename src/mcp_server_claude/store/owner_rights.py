"""File access as root with the rights of the data directory's owner, who could plant links to files of root's."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_lock = RLock()


@contextmanager
def owner_rights(directory: Path) -> Generator[None]:
    """As root, take the rights of the user who controls a path; as any other user, change nothing.

    New files, those of SQLite included, then belong to that user, whose server can open them.
    """
    if sys.platform == "win32" or os.geteuid() != 0 or (owner := _controlling_user(directory)) is None:
        yield
        return
    user, group = owner
    with _lock:  # ids belong to the whole process
        groups = os.getgroups()
        os.setgroups([])
        os.setegid(group)
        os.seteuid(user)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(os.getgid())
            os.setgroups(groups)


def _controlling_user(directory: Path) -> tuple[int, int] | None:
    """Return user and group of the first component of a path that is not root's, links included."""
    path = directory.absolute()
    for each in (*reversed(path.parents), path):
        try:
            status = each.lstat()
        except OSError:
            return None
        if status.st_uid != 0:
            return status.st_uid, status.st_gid
    return None
