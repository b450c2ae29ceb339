"""Opens files below a root, and nowhere else; the only module that opens files for a call.

Where the platform has `openat` (Linux, macOS, the BSDs) a path is walked from its root: each component is opened in
the directory opened before it, and never through a symlink (`O_NOFOLLOW`). A link is read instead, its target is made
an absolute path, and the walk begins again if that lies in a root. So no swap in between leads out, and there is no
`..` to follow. What is opened must be what was seen: a regular file or a directory, the same device and inode. Devices,
pipes and sockets are never opened; `O_NONBLOCK` keeps a pipe that is swapped in from blocking.

Elsewhere (Windows) the path is resolved, compared, opened, and resolved and compared with what was opened again. There
a directory that is swapped and back at the right moment may show names from outside, never the content of a file.

A hard link cannot be distinguished from its original file: a user who can create one in a root can read its target
already
(Linux: `fs.protected_hardlinks`).
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias

from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from mcp_server_claude.files.roots import FilePolicy

SandboxErrorReason: TypeAlias = Literal[
    "missing", "outside", "links", "special", "within_file", "changed", "denied", "name", "trouble"
]

MAX_SYMLINKS = 40  # as Linux
MAX_PATH_COMPONENTS = 256
MAX_OPEN_ATTEMPTS = 5  # an editor replaces a file when it saves
READ_CHUNK_BYTES = 1 << 20
PSEUDO_FILE_SYSTEMS = ("/proc", "/sys")
"""File systems whose regular files hold the memory and environments of processes; never read."""

_COMMON_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_FILE_FLAGS = _COMMON_FLAGS
_DIRECTORY_FLAGS = _COMMON_FLAGS | getattr(os, "O_DIRECTORY", 0)

HAS_OPENAT = (
    hasattr(os, "O_NOFOLLOW")
    and hasattr(os, "O_DIRECTORY")
    and {os.open, os.stat, os.readlink} <= os.supports_dir_fd
    and os.scandir in os.supports_fd
)

_WINDOWS_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)


class SandboxError(Exception):
    """A path cannot be opened: `component` in `directory` is missing, leads out or may not be read."""

    def __init__(self, reason: SandboxErrorReason, directory: RootedPath, component: str = "") -> None:
        super().__init__(reason)
        self.reason: SandboxErrorReason = reason
        self.directory = directory
        self.component = component


@frozen_dataclass()
class RootedPath:
    """A path below a root: the real path of the root and the components from there, none of them `..`."""

    root: str
    parts: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return os.path.join(self.root, *self.parts)  # noqa: PTH118 - surrogates and speed: plain strings throughout

    def ancestor(self, count: int) -> RootedPath:
        """The path with only its first `count` components."""
        return RootedPath(self.root, self.parts[:count])

    def joinpath(self, *parts: str) -> RootedPath:
        return RootedPath(self.root, (*self.parts, *parts))


@frozen_dataclass()
class Roots:
    """The directories that may be read: of each the real path, and the other paths by which callers may name it."""

    directories: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def from_policy(cls, policy: FilePolicy) -> Roots:
        return cls(tuple((os.path.realpath(root), _root_aliases(os.fspath(root))) for root in policy.roots))

    def locate(self, path: str) -> RootedPath | None:
        """The place below a root of a normalized absolute path, None outside of the roots.

        Looks at nothing on the disk but the root itself.
        """
        for real, aliases in self.directories:
            for alias in aliases:
                if (parts := _components_below(alias, path)) is not None:
                    return RootedPath(real, parts)
        return None

    def display_path(self, rooted_path: RootedPath) -> str:
        """The path for callers: relative to the first root, absolute below others, always with `/`."""
        first = self.directories[0][0] if self.directories else None
        return (
            ("/".join(rooted_path.parts) or ".") if rooted_path.root == first else rooted_path.path.replace(os.sep, "/")
        )


@dataclass(slots=True)
class OpenFile:
    """An open file or directory. `handle` is a descriptor; a path for directories where those cannot be opened."""

    rooted_path: RootedPath
    stat_result: os.stat_result
    handle: int | str

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.stat_result.st_mode)

    def read(self, max_bytes: int) -> bytes:
        """The first `max_bytes` of the file, and no more than it had when it was opened."""
        assert isinstance(self.handle, int)  # noqa: S101 - a file
        left = min(self.stat_result.st_size, max_bytes)
        chunks: list[bytes] = []
        try:
            while left > 0 and (chunk := os.read(self.handle, min(left, READ_CHUNK_BYTES))):
                chunks.append(chunk)
                left -= len(chunk)
        except OSError:
            raise SandboxError("trouble", self.rooted_path) from None
        return b"".join(chunks)

    def list_entries(self, limit: int) -> list[tuple[str, bool]]:
        """At most `limit` names of a directory, in no order, each with whether it is a directory (a link is not)."""
        try:
            with os.scandir(self.handle) as entries:
                names = [(entry.name, _is_real_directory(entry)) for entry in islice(entries, limit)]
            if isinstance(self.handle, str) and not os.path.samestat(self.stat_result, os.lstat(self.handle)):
                raise SandboxError("changed", self.rooted_path)
        except OSError:
            raise SandboxError("changed", self.rooted_path) from None
        else:
            return names


@contextmanager
def open_in_roots(rooted_path: RootedPath, roots: Roots, *, follow: bool = True) -> Generator[OpenFile]:
    """A file or directory, open for reading. With `follow`, links that stay below a root are followed.

    Raises:
        SandboxError: It does not exist, is not below a root, is neither file nor directory, or cannot be read.
    """
    file = _open_following_links(rooted_path, roots, follow=follow)
    try:
        yield file
    finally:
        if isinstance(file.handle, int):
            os.close(file.handle)


def normalize_path(path: str) -> str:
    """An absolute path without `.`, `..` and empty components, by its text alone."""
    normal = os.path.normpath(path)
    return normal[1:] if normal.startswith("//") and os.sep == "/" else normal  # POSIX keeps two leading slashes


def _open_following_links(rooted_path: RootedPath, roots: Roots, *, follow: bool) -> OpenFile:
    open_without_links = _open_by_walking if HAS_OPENAT else _open_by_resolving
    links, attempts = 0, 0
    while True:
        try:
            opened = open_without_links(rooted_path, roots)
        except SandboxError as error:
            attempts += 1
            if error.reason != "changed" or attempts >= MAX_OPEN_ATTEMPTS:
                raise
            continue
        if isinstance(opened, OpenFile):
            return opened
        links += 1
        if not follow:
            raise SandboxError("changed", rooted_path)
        if links > MAX_SYMLINKS:
            raise SandboxError("links", rooted_path)
        target = roots.locate(opened)
        if target is None:
            raise SandboxError("outside", rooted_path)
        rooted_path = target


def _open_by_walking(rooted_path: RootedPath, roots: Roots) -> OpenFile | str:
    """Open each component in the one before; where one is a link, return the absolute path that it leads to."""
    del roots
    _check_text(rooted_path)
    depth, part = 0, ""
    handle = -1
    try:
        handle = os.open(rooted_path.root, _DIRECTORY_FLAGS)
        for depth, part in enumerate(rooted_path.parts):
            seen = os.stat(part, dir_fd=handle, follow_symlinks=False)
            if stat.S_ISLNK(seen.st_mode):
                target = os.readlink(part, dir_fd=handle)
                parts = (*rooted_path.parts[:depth], target, *rooted_path.parts[depth + 1 :])
                return normalize_path(os.path.join(rooted_path.root, *parts))  # noqa: PTH118
            flags = _open_flags(seen.st_mode, rooted_path, depth)
            inner = os.open(part, flags, dir_fd=handle)
            os.close(handle)
            handle = inner
            if not os.path.samestat(seen, os.fstat(handle)):
                raise SandboxError("changed", rooted_path.ancestor(depth), part)
        file = OpenFile(rooted_path, _check_opened(os.fstat(handle), rooted_path), handle)
        handle = -1
    except (OSError, ValueError) as error:
        raise _sandbox_error(error, rooted_path.ancestor(depth), part) from None
    else:
        return file
    finally:
        if handle >= 0:
            os.close(handle)


def _open_by_resolving(rooted_path: RootedPath, roots: Roots) -> OpenFile | str:
    """Resolve the path, compare, open, and compare the open file with what the path resolves to now."""
    _check_text(rooted_path)
    handle = -1
    try:
        real = os.path.realpath(rooted_path.path, strict=True)
        inside = roots.locate(normalize_path(real))
        if inside is None:
            raise SandboxError("outside", rooted_path)
        if inside != rooted_path:
            return inside.path
        seen = os.lstat(real)
        flags = _open_flags(seen.st_mode, rooted_path, len(rooted_path.parts) - 1)
        if stat.S_ISDIR(seen.st_mode):  # Windows opens none
            return OpenFile(rooted_path, _check_opened(seen, rooted_path), real)
        handle = os.open(real, flags)
        now = os.fstat(handle)
        if os.path.realpath(rooted_path.path, strict=True) != real or not os.path.samestat(os.lstat(real), now):
            raise SandboxError("changed", rooted_path)
        file = OpenFile(rooted_path, _check_opened(now, rooted_path), handle)
        handle = -1
    except (OSError, ValueError) as error:
        raise _sandbox_error(error, *_deepest_existing(rooted_path)) from None
    else:
        return file
    finally:
        if handle >= 0:
            os.close(handle)


def _check_text(rooted_path: RootedPath) -> None:
    """Refuse paths by their text alone: too long, pseudo file systems, names that Windows treats specially."""
    if len(rooted_path.parts) > MAX_PATH_COMPONENTS:
        raise SandboxError("name", rooted_path.ancestor(0))
    path = rooted_path.path
    if any(path == pseudo or path.startswith(pseudo + "/") for pseudo in PSEUDO_FILE_SYSTEMS):
        raise SandboxError("special", rooted_path)
    if sys.platform == "win32":
        for part in rooted_path.parts:  # streams (`a.txt:secret`), devices, and names that Windows would trim
            if ":" in part or part != part.rstrip(" .") or _WINDOWS_DEVICE.fullmatch(part):
                raise SandboxError("special", rooted_path)


def _open_flags(mode: int, rooted_path: RootedPath, depth: int) -> int:
    if stat.S_ISDIR(mode):
        return _DIRECTORY_FLAGS
    if not stat.S_ISREG(mode):
        raise SandboxError(
            "special", rooted_path.ancestor(depth), rooted_path.parts[depth] if rooted_path.parts else ""
        )
    if depth < len(rooted_path.parts) - 1:
        raise SandboxError("within_file", rooted_path.ancestor(depth), rooted_path.parts[depth])
    return _FILE_FLAGS


def _check_opened(stat_result: os.stat_result, rooted_path: RootedPath) -> os.stat_result:
    """Check what was opened: a regular file or directory, not on /proc or /sys wherever these are mounted."""
    if not (stat.S_ISREG(stat_result.st_mode) or stat.S_ISDIR(stat_result.st_mode)):
        raise SandboxError("special", rooted_path)
    for pseudo in PSEUDO_FILE_SYSTEMS:
        try:
            if os.stat(pseudo).st_dev == stat_result.st_dev and os.stat("/").st_dev != stat_result.st_dev:  # noqa: PTH116
                raise SandboxError("special", rooted_path)
        except OSError:
            continue
    return stat_result


def _sandbox_error(error: OSError | ValueError, directory: RootedPath, component: str) -> SandboxError:
    match getattr(error, "errno", None):
        case errno.ENOENT:
            return SandboxError("missing", directory, component)
        case errno.ELOOP | errno.ENOTDIR | errno.EMLINK:  # a link that was swapped in
            return SandboxError("changed" if HAS_OPENAT else "links", directory, component)
        case errno.EACCES | errno.EPERM:
            return SandboxError("denied", directory, component)
        case errno.ENAMETOOLONG | errno.EINVAL | errno.EILSEQ | None:
            return SandboxError("name", directory, component)
        case errno.ENXIO | errno.ENODEV | errno.EOPNOTSUPP:
            return SandboxError("special", directory, component)
        case _:
            return SandboxError("trouble", directory, component)


def _deepest_existing(rooted_path: RootedPath) -> tuple[RootedPath, str]:
    """The deepest directory of the path that exists, and the component after it."""
    for depth, part in enumerate(rooted_path.parts):
        if not os.path.lexists(rooted_path.ancestor(depth + 1).path):
            return rooted_path.ancestor(depth), part
    return rooted_path, ""


def _components_below(root: str, path: str) -> tuple[str, ...] | None:
    ancestors, parts = root.rstrip(os.sep).split(os.sep), path.rstrip(os.sep).split(os.sep)  # noqa: PTH206
    start = parts[: len(ancestors)]
    if start != ancestors and not _is_other_spelling(start, ancestors):
        return None
    return tuple(parts[len(ancestors) :])


def _is_other_spelling(start: Sequence[str], ancestors: Sequence[str]) -> bool:
    """True if two paths are one directory that differ in case or in their normal form of Unicode.

    That is for the file system to say, and differs by directory (APFS, NTFS, vfat, `casefold` of ext4). It is asked
    only about a path that reads like the root: looking at others could mount a network drive. What follows is opened
    below the root as the operator spelled it.
    """
    if [*map(os.path.normcase, start)] == [*map(os.path.normcase, ancestors)]:  # Windows
        return True
    if len(start) != len(ancestors) or [*map(_fold_case, start)] != [*map(_fold_case, ancestors)]:
        return False
    try:
        return os.path.samefile(os.sep.join(start), os.sep.join(ancestors))  # noqa: PTH118, PTH121 - strings
    except (OSError, ValueError):
        return False


def _fold_case(part: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", part).casefold())


def _root_aliases(root: str) -> tuple[str, ...]:
    absolute = normalize_path(os.path.abspath(root))  # noqa: PTH100
    real = os.path.realpath(root)
    names = [real, absolute]
    if sys.platform == "darwin" and real.startswith("/private/"):  # /tmp, /var and /etc are links there
        names.append(real.removeprefix("/private"))
    return tuple(dict.fromkeys(names))


def _is_real_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def readable_entries(
    rooted_path: RootedPath, roots: Roots, limit: int, *, follow: bool = True
) -> Sequence[tuple[str, bool]]:
    """The entries of a directory, none where it cannot be read."""
    try:
        with open_in_roots(rooted_path, roots, follow=follow) as directory:
            return directory.list_entries(limit) if directory.is_directory else ()
    except SandboxError:
        return ()
