"""Globs: `*` and `?` within a component, `[…]`, `**` over any number of directories, `{a,b}` for either.

Each component is `fnmatch`'s, which is safe against patterns made to be slow; `**` is matched step by step, never by
one large regular expression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING

from mcp_server_claude.errors import Refused
from mcp_server_claude.files import gitignore_walk, resolve_path, sandbox, secret_names
from mcp_server_claude.files.name_quoting import readable, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mcp_server_claude.files.roots import Rules
    from mcp_server_claude.files.sandbox import Ground, Spot

MAGIC = re.compile(r"[*?\[{]")
MOST_ALTERNATIVES = 32
MOST_STARS = 20
LONGEST = 500
_BRACES = re.compile(r"\{([^{},]*(?:,[^{},]*)+)\}")


@dataclass(frozen=True, slots=True)
class Matched:
    """The files that a glob matches, sorted; `secret` were left out; `whole` unless the tree is too large to know."""

    spots: tuple[Spot, ...]
    secret: int = 0
    whole: bool = True


def is_glob(name: str) -> bool:
    return MAGIC.search(name) is not None


def matched(glob: str, rules: Rules, ground: Ground) -> Matched:
    """The files below the roots that a glob matches; hidden ones never, nor what git ignores.

    Raises:
        Refused: it is too long, leaves the roots, or starts at a directory that is not there.
    """
    if len(glob) > LONGEST:
        raise Refused(f"The glob {shown(glob, 40)} is too long; at most {LONGEST} characters.")
    spots: dict[Spot, None] = {}
    secret, whole = 0, True
    for each in _alternatives(glob):
        found = _one(each, rules, ground)
        spots |= dict.fromkeys(found.spots)
        secret, whole = secret + found.secret, whole and found.whole
    return Matched(tuple(spots), secret, whole)


def _one(glob: str, rules: Rules, ground: Ground) -> Matched:
    fixed, segments = _split(glob)
    if ".." in segments or sum(part.count("*") for part in segments) > MOST_STARS:
        raise Refused(f"The glob {shown(glob)} is too intricate; name a directory first and fewer stars.")
    if not segments:  # an alternative without a star
        found = resolve_path.spot(glob, rules, ground)
        return Matched((found,)) if _is_file(found, ground) else Matched(())
    with resolve_path.opened(fixed or ".", rules, ground) as base:
        if not base.is_directory:
            raise Refused(f"{shown(fixed)} is a file; the glob {shown(glob)} begins there.")
        start = base.spot
    if ".git" in start.parts:
        raise Refused(f"Globs do not look into .git: {shown(glob)}.")
    names, whole = gitignore_walk.files(start, ground)
    pattern = [None if part == "**" else re.compile(translate(part)) for part in _collapsed(segments)]
    found = [name for name in names if not _hidden(name, segments) and _matches(pattern, name)]
    spots = [start.below(*name) for name in found]
    open_ones = [spot for spot in spots if not secret_names.why(spot.parts, rules.allow_secret_names)]
    return Matched(tuple(open_ones), len(spots) - len(open_ones), whole)


def nothing(glob: str, rules: Rules, ground: Ground) -> Refused:
    """What to say when a glob matches no file, and where such files are."""
    said = f"No file matches {shown(glob)} (hidden files and what git ignores are left out)."
    last = glob.rpartition("/")[2]
    if is_glob(glob) and last and last != "**" and not glob.startswith("**"):
        try:
            wider = matched(f"**/{last}", rules, ground).spots
        except Refused:
            wider = ()
        if wider:
            return Refused(
                f"{said} {shown('**/' + last)} would match {len(wider):,}, e.g. {shown(ground.label(wider[0]))}.",
                kind="not_found",
            )
    return Refused(f"{said} {readable(rules)}", kind="not_found")


def _split(glob: str) -> tuple[str, list[str]]:
    """The directory before the first component with magic, and the components from there."""
    parts = glob.replace("\\", "/").split("/") if sandbox.os.sep == "\\" else glob.split("/")
    first = next((n for n, part in enumerate(parts) if MAGIC.search(part)), len(parts))
    fixed = "/".join(parts[:first]) or ("/" if glob.startswith("/") else "")
    return fixed, [part for part in parts[first:] if part not in {"", "."}]


def _collapsed(segments: Sequence[str]) -> Iterator[str]:
    """The components, with `**` once where it stands several times; at the end it means every file below."""
    before = ""
    for part in (*segments, "*") if segments[-1] == "**" else segments:
        if not part == before == "**":
            yield part
        before = part


def _matches(pattern: Sequence[re.Pattern[str] | None], name: Sequence[str]) -> bool:
    """Whether the components match: the places in the pattern reached so far, moved on by one component at a time."""
    reached = _skipped({0}, pattern)
    for part in name:
        after: set[int] = set()
        for at in reached:
            if at == len(pattern):
                continue
            step = pattern[at]
            if step is None:
                after.add(at)
            elif step.match(part):
                after.add(at + 1)
        reached = _skipped(after, pattern)
        if not reached:
            return False
    return len(pattern) in reached


def _skipped(reached: set[int], pattern: Sequence[re.Pattern[str] | None]) -> set[int]:
    """`**` may stand for nothing."""
    for at in sorted(reached):
        here = at
        while here < len(pattern) and pattern[here] is None:
            here += 1
            reached.add(here)
    return reached


def _hidden(name: Sequence[str], segments: Sequence[str]) -> bool:
    """Whether a file is hidden, or in a hidden directory that the glob does not name."""
    return name[-1].startswith(".") or any(part.startswith(".") and part not in segments for part in name[:-1])


def _alternatives(glob: str) -> list[str]:
    waiting, found = [glob], list[str]()
    while waiting:
        each = waiting.pop(0)
        braces = _BRACES.search(each)
        if braces is None:
            found.append(each)
        else:
            waiting += [each[: braces.start()] + one + each[braces.end() :] for one in braces[1].split(",")]
        if len(waiting) + len(found) > MOST_ALTERNATIVES:
            raise Refused(f"The glob {shown(glob)} has more than {MOST_ALTERNATIVES} alternatives.")
    return found


def _is_file(spot: Spot, ground: Ground) -> bool:
    try:
        with sandbox.opened(spot, ground) as found:
            return not found.is_directory
    except sandbox.Blocked:
        return False
