"""The one place where files are opened: below a root, and nowhere else.

Where the platform can (Linux, macOS, the BSDs) a path is walked from its root, each component opened in the directory
opened before it (`openat`) and never through a symlink (`O_NOFOLLOW`). A link is read instead, its target folded to an
absolute path, and the walk begins again if that lies in a root. So nothing that is swapped meanwhile leads out, and
there is no `..` to follow. What is opened must be what was seen: a regular file or a directory, the same device and
inode. Devices, pipes and sockets are never opened; should one be swapped in, `O_NONBLOCK` keeps it from being
waited on.

Elsewhere (Windows) the path is resolved, compared, opened, and resolved and compared with what was opened again. There
a directory that is swapped and back at the right moment may show names from outside, never what a file holds.

A hard link cannot be told from the file it was made from: whoever can make one in a root can read its target already
(Linux: `fs.protected_hardlinks`).
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from mcp_server_claude.files.roots import Rules

Why: TypeAlias = Literal[
    "missing", "outside", "links", "special", "within_file", "changed", "denied", "name", "trouble"
]

MOST_LINKS = 40  # as Linux
MOST_PARTS = 256
TRIES = 5  # an editor replaces a file when it saves
PIECE = 1 << 20
PSEUDO = ("/proc", "/sys")
"""Files here are regular, and hold processes' memory and environments."""

_COMMON = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_FILE = _COMMON
_DIRECTORY = _COMMON | getattr(os, "O_DIRECTORY", 0)

CAN_WALK = (
    hasattr(os, "O_NOFOLLOW")
    and hasattr(os, "O_DIRECTORY")
    and {os.open, os.stat, os.readlink} <= os.supports_dir_fd
    and os.scandir in os.supports_fd
)

_WINDOWS_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)


class Blocked(Exception):  # noqa: N818 - the reason a way ends; it becomes a `Refused` where the name is known
    """The way to a file ended at `part` in the directory `at`."""

    def __init__(self, why: Why, at: Spot, part: str = "") -> None:
        super().__init__(why)
        self.why: Why = why
        self.at = at
        self.part = part


@dataclass(frozen=True, slots=True)
class Spot:
    """A path below a root: the root's real path and the components from there, none of them `..`."""

    root: str
    parts: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return os.path.join(self.root, *self.parts)  # noqa: PTH118 - surrogates and speed: plain strings throughout

    def above(self, count: int) -> Spot:
        """The spot with only its first `count` components."""
        return Spot(self.root, self.parts[:count])

    def below(self, *parts: str) -> Spot:
        return Spot(self.root, (*self.parts, *parts))


@dataclass(frozen=True, slots=True)
class Ground:
    """The roots: each real path with the paths by which it may be called."""

    roots: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def of(cls, rules: Rules) -> Ground:
        return cls(tuple((os.path.realpath(root), _aliases(os.fspath(root))) for root in rules.roots))

    def spot(self, path: str) -> Spot | None:
        """Where an absolute path, folded, lies below a root; None when it does not. Looks at nothing on disk."""
        for real, aliases in self.roots:
            for alias in aliases:
                if (parts := _inside(alias, path)) is not None:
                    return Spot(real, parts)
        return None

    def label(self, spot: Spot) -> str:
        """How a spot is called: relative to the first root, else absolute; always with `/`."""
        first = self.roots[0][0] if self.roots else None
        return ("/".join(spot.parts) or ".") if spot.root == first else spot.path.replace(os.sep, "/")


@dataclass(slots=True)
class Opened:
    """An open file or directory. `handle` is a descriptor; a path for directories where those cannot be opened."""

    spot: Spot
    seen: os.stat_result
    handle: int | str

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.seen.st_mode)

    def read(self, most: int) -> bytes:
        """The file as long as it was when it was opened, but no more than `most` bytes: one that grows ends there."""
        assert isinstance(self.handle, int)  # noqa: S101 - a file
        left = min(self.seen.st_size, most)
        pieces: list[bytes] = []
        try:
            while left > 0 and (piece := os.read(self.handle, min(left, PIECE))):
                pieces.append(piece)
                left -= len(piece)
        except OSError:
            raise Blocked("trouble", self.spot) from None
        return b"".join(pieces)

    def entries(self, most: int) -> list[tuple[str, bool]]:
        """At most `most` names of a directory, in no order, and whether each is a directory itself (a link is not)."""
        try:
            with os.scandir(self.handle) as found:
                names = [(entry.name, _is_directory(entry)) for entry in islice(found, most)]
            if isinstance(self.handle, str) and not os.path.samestat(self.seen, os.lstat(self.handle)):
                raise Blocked("changed", self.spot)
        except OSError:
            raise Blocked("changed", self.spot) from None
        else:
            return names


@contextmanager
def opened(spot: Spot, ground: Ground, *, follow: bool = True) -> Generator[Opened]:
    """The file or directory at `spot`, for reading. With `follow`, links that stay below a root are followed.

    Raises:
        Blocked: it is not there, not below a root, not a file or directory, or cannot be read.
    """
    found = _found(spot, ground, follow=follow)
    try:
        yield found
    finally:
        if isinstance(found.handle, int):
            os.close(found.handle)


def fold(path: str) -> str:
    """An absolute path without `.`, `..` and empty components, by its text alone."""
    folded = os.path.normpath(path)
    return folded[1:] if folded.startswith("//") and os.sep == "/" else folded  # POSIX leaves two slashes alone


def _found(spot: Spot, ground: Ground, *, follow: bool) -> Opened:
    open_straight = _walked if CAN_WALK else _resolved
    links, tries = 0, 0
    while True:
        try:
            found = open_straight(spot, ground)
        except Blocked as blocked:
            tries += 1
            if blocked.why != "changed" or tries >= TRIES:
                raise
            continue
        if isinstance(found, Opened):
            return found
        links += 1
        if not follow:
            raise Blocked("changed", spot)
        if links > MOST_LINKS:
            raise Blocked("links", spot)
        inside = ground.spot(found)
        if inside is None:
            raise Blocked("outside", spot)
        spot = inside


def _walked(spot: Spot, ground: Ground) -> Opened | str:
    """Down from the root, component by component; the absolute path to go on with where a link is met."""
    del ground
    _permit(spot)
    depth, part = 0, ""
    here = -1
    try:
        here = os.open(spot.root, _DIRECTORY)
        for depth, part in enumerate(spot.parts):
            seen = os.stat(part, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(seen.st_mode):
                target = os.readlink(part, dir_fd=here)
                return fold(os.path.join(spot.root, *spot.parts[:depth], target, *spot.parts[depth + 1 :]))  # noqa: PTH118
            flags = _flags(seen.st_mode, spot, depth)
            inner = os.open(part, flags, dir_fd=here)
            os.close(here)
            here = inner
            if not os.path.samestat(seen, os.fstat(here)):
                raise Blocked("changed", spot.above(depth), part)
        found = Opened(spot, _real(os.fstat(here), spot), here)
        here = -1
    except (OSError, ValueError) as error:
        raise _blocked(error, spot.above(depth), part) from None
    else:
        return found
    finally:
        if here >= 0:
            os.close(here)


def _resolved(spot: Spot, ground: Ground) -> Opened | str:
    """Without `openat`: resolve, compare, open, and compare what was opened with what resolves now."""
    _permit(spot)
    handle = -1
    try:
        real = os.path.realpath(spot.path, strict=True)
        inside = ground.spot(fold(real))
        if inside is None:
            raise Blocked("outside", spot)
        if inside != spot:
            return inside.path
        seen = os.lstat(real)
        if _flags(seen.st_mode, spot, len(spot.parts) - 1) == _DIRECTORY:
            return Opened(spot, _real(seen, spot), real)
        handle = os.open(real, _FILE)
        now = os.fstat(handle)
        if os.path.realpath(spot.path, strict=True) != real or not os.path.samestat(os.lstat(real), now):
            raise Blocked("changed", spot)
        found = Opened(spot, _real(now, spot), handle)
        handle = -1
    except (OSError, ValueError) as error:
        raise _blocked(error, *_deepest(spot)) from None
    else:
        return found
    finally:
        if handle >= 0:
            os.close(handle)


def _permit(spot: Spot) -> None:
    """What the text of a path alone rules out."""
    if len(spot.parts) > MOST_PARTS:
        raise Blocked("name", spot.above(0))
    path = spot.path
    if any(path == pseudo or path.startswith(pseudo + "/") for pseudo in PSEUDO):
        raise Blocked("special", spot)
    if sys.platform == "win32":
        for part in spot.parts:  # streams (`a.txt:secret`), devices, and names that Windows would trim
            if ":" in part or part != part.rstrip(" .") or _WINDOWS_DEVICE.fullmatch(part):
                raise Blocked("special", spot)


def _flags(mode: int, spot: Spot, depth: int) -> int:
    if stat.S_ISDIR(mode):
        return _DIRECTORY
    if not stat.S_ISREG(mode):
        raise Blocked("special", spot.above(depth), spot.parts[depth] if spot.parts else "")
    if depth < len(spot.parts) - 1:
        raise Blocked("within_file", spot.above(depth), spot.parts[depth])
    return _FILE


def _real(seen: os.stat_result, spot: Spot) -> os.stat_result:
    """What was opened, once more: never on /proc or /sys, wherever they are mounted."""
    if not (stat.S_ISREG(seen.st_mode) or stat.S_ISDIR(seen.st_mode)):
        raise Blocked("special", spot)
    for pseudo in PSEUDO:
        try:
            if os.stat(pseudo).st_dev == seen.st_dev and os.stat("/").st_dev != seen.st_dev:  # noqa: PTH116
                raise Blocked("special", spot)
        except OSError:
            continue
    return seen


def _blocked(error: OSError | ValueError, at: Spot, part: str) -> Blocked:
    match getattr(error, "errno", None):
        case errno.ENOENT:
            return Blocked("missing", at, part)
        case errno.ELOOP | errno.ENOTDIR | errno.EMLINK:  # a link where a moment ago there was none
            return Blocked("changed" if CAN_WALK else "links", at, part)
        case errno.EACCES | errno.EPERM:
            return Blocked("denied", at, part)
        case errno.ENAMETOOLONG | errno.EINVAL | errno.EILSEQ | None:
            return Blocked("name", at, part)
        case errno.ENXIO | errno.ENODEV | errno.EOPNOTSUPP:
            return Blocked("special", at, part)
        case _:
            return Blocked("trouble", at, part)


def _deepest(spot: Spot) -> tuple[Spot, str]:
    """The last directory on the way that is there, and the component after it."""
    for depth, part in enumerate(spot.parts):
        if not os.path.lexists(spot.above(depth + 1).path):
            return spot.above(depth), part
    return spot, ""


def _inside(root: str, path: str) -> tuple[str, ...] | None:
    folded_root, folded = os.path.normcase(root), os.path.normcase(path)
    if folded == folded_root:
        return ()
    prefix = folded_root if folded_root.endswith(os.sep) else folded_root + os.sep
    return tuple(path[len(prefix) :].split(os.sep)) if folded.startswith(prefix) else None  # noqa: PTH206


def _aliases(root: str) -> tuple[str, ...]:
    given = fold(os.path.abspath(root))  # noqa: PTH100
    real = os.path.realpath(root)
    names = [real, given]
    if sys.platform == "darwin" and real.startswith("/private/"):  # /tmp, /var and /etc are links there
        names.append(real.removeprefix("/private"))
    return tuple(dict.fromkeys(names))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def entries(spot: Spot, ground: Ground, most: int, *, follow: bool = True) -> Sequence[tuple[str, bool]]:
    """What is in a directory, as far as it can be read; nothing where it cannot."""
    try:
        with opened(spot, ground, follow=follow) as found:
            return found.entries(most) if found.is_directory else ()
    except Blocked:
        return ()
