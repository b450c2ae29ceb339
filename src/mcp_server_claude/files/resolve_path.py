"""From a name that a caller gave to a spot below a root, and from a way that ended to a sentence that helps."""

from __future__ import annotations

import difflib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server_claude.errors import Refused
from mcp_server_claude.files import sandbox, secret_names
from mcp_server_claude.files.name_quoting import ALLOW, listed, readable, shown
from mcp_server_claude.files.sandbox import Blocked, Ground

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from mcp_server_claude.files.roots import Rules
    from mcp_server_claude.files.sandbox import Opened, Spot

LONGEST = 4_096
MOST_ENTRIES = 5_000
DESCENT = 12


def spot(name: str, rules: Rules, ground: Ground) -> Spot:
    """Where a name points to: relative to the first root, absolute, or `~/…` where that is in a root. Reads nothing.

    Raises:
        Refused: it is no path, leaves the roots, or looks like a secret.
    """
    _check(name)
    if not rules.roots:
        raise Refused(readable(rules))
    found = _at_home(name, ground) if name.startswith(("~/", "~" + os.sep)) else ground.spot(fold(name, ground))
    if found is None:
        raise Refused(f"{shown(name)} is outside of what may be read. {readable(rules)}")
    permit(found, name, rules)
    return found


def fold(name: str, ground: Ground) -> str:
    """The absolute path that a name means, by its text alone."""
    return sandbox.fold(os.path.join(ground.roots[0][0], name))  # noqa: PTH118 - the fence's currency is strings


def permit(found: Spot, name: str, rules: Rules) -> None:
    """Refuse what looks like a secret.

    Raises:
        Refused: it does, and the operator has not named it.
    """
    pattern = secret_names.why(found.parts, rules.allow_secret_names)
    if pattern:
        raise Refused(
            f"{shown(name)} is not read: by its name ({pattern}) it may hold a secret. "
            f"If it holds none, the operator can allow that name in {ALLOW}."
        )


@contextmanager
def opened(name: str, rules: Rules, ground: Ground) -> Generator[Opened]:
    """What a caller named, open for reading.

    Raises:
        Refused: it cannot be read, and why.
    """
    asked = spot(name, rules, ground)
    try:
        with sandbox.opened(asked, ground) as found:
            permit(found.spot, name, rules)
            yield found
    except Blocked as blocked:
        raise refusal(name, blocked, rules, ground) from None


def refusal(name: str, blocked: Blocked, rules: Rules, ground: Ground) -> Refused:
    """Why a way ended, so that a caller can correct itself in one turn."""
    said = shown(name)
    match blocked.why:
        case "missing":
            return Refused(f"There is no {said}.{_nearest(name, blocked, rules, ground)}", kind="not_found")
        case "outside":
            return Refused(f"{said} is a link that leads outside of what may be read. {readable(rules)}")
        case "links":
            return Refused(f"{said} is a link to itself, or one of too many.")
        case "special":
            return Refused(f"{said} is not a regular file (a device, a pipe, a socket or part of the system).")
        case "within_file":
            return Refused(f"{said} leads through {shown(blocked.part)}, which is a file, not a directory.")
        case "changed":
            return Refused(f"{said} was replaced while it was being opened. Try again.")
        case "denied":
            return Refused(f"This server may not read {said} (file permissions).")
        case "name":
            return Refused(f"{said} is not a path that this system can have.")
        case "trouble":
            return Refused(f"{said} could not be read.")


def directory(name: str, found: Opened) -> Refused:
    """What to name instead of a directory."""
    inside = sorted(found.entries(MOST_ENTRIES))
    names = [each + "/" * is_directory for each, is_directory in inside if not each.startswith(".")]
    within = f" It holds {listed(names)}." if names else " It is empty."
    stem = name.rstrip("/")
    return Refused(f"{shown(name)} is a directory. Name files, or a glob such as {shown(stem + '/**/*')}.{within}")


def _check(name: str) -> None:
    if not name.strip():
        raise Refused("A file's name is empty.")
    if len(name) > LONGEST:
        raise Refused(f"A name of {len(name):,} characters is no path: {shown(name, 40)}.")
    if "\0" in name:
        raise Refused(f"{shown(name)} is no path: it holds a zero character.")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Refused(f"{shown(name)} is no path: it is not well-formed Unicode.") from None


def _at_home(name: str, ground: Ground) -> Spot | None:
    try:
        return ground.spot(sandbox.fold(str(Path(name).expanduser())))
    except (RuntimeError, ValueError):
        return None


def _nearest(name: str, blocked: Blocked, rules: Rules, ground: Ground) -> str:
    """What a caller may have meant: near names on the way, the rest of the path followed as far as it is there."""
    found: list[str] = []
    asked = ground.spot(fold(name, ground))
    rest = asked.parts[len(blocked.at.parts) + 1 :] if asked else ()
    for near in _near(blocked.at, blocked.part, rules, ground, most=3):
        at = _followed(blocked.at.below(near), rest, rules, ground)
        found.append(ground.label(at))
    if found:
        others = f" Others: {listed(found[1:])}." if found[1:] else ""
        return f" The nearest is {shown(found[0])}.{others} {readable(rules)}"
    beside = sorted(
        each + "/" * is_directory
        for each, is_directory in sandbox.entries(blocked.at, ground, MOST_ENTRIES)
        if not each.startswith(".") and not secret_names.why((*blocked.at.parts, each), rules.allow_secret_names)
    )
    there = f" {shown(ground.label(blocked.at))} holds {listed(beside)}." if beside else ""
    return f"{there} {readable(rules)}"


def _followed(at: Spot, rest: Sequence[str], rules: Rules, ground: Ground) -> Spot:
    for part in rest[:DESCENT]:
        near = _near(at, part, rules, ground, most=1)
        if not near:
            break
        at = at.below(near[0])
    return at


def _near(at: Spot, part: str, rules: Rules, ground: Ground, *, most: int) -> list[str]:
    """Names in a directory that are like `part`; secrets are not told."""
    names = {
        each.lower(): each
        for each, _ in sandbox.entries(at, ground, MOST_ENTRIES)
        if not secret_names.why((*at.parts, each), rules.allow_secret_names)
    }
    close = difflib.get_close_matches(part.lower()[:255], names, n=most, cutoff=0.6)
    return [names[each] for each in close]
