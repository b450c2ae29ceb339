"""Globs: `*` and `?` within a component, `[…]`, `**` over any number of directories, `{a,b}` for either.

Each component is `fnmatch`'s, which is safe against patterns made to be slow; `**` is matched step by step, never by
one large regular expression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import gitignore_walk, resolve_path, sandbox, secret_names
from mcp_server_claude.files.name_quoting import quote_name, roots_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mcp_server_claude.files.roots import FilePolicy
    from mcp_server_claude.files.sandbox import RootedPath, Roots

GLOB_CHARACTER = re.compile(r"[*?\[{]")
MAX_ALTERNATIVES = 32
MAX_STARS = 20
MAX_GLOB_CHARS = 500
_BRACES = re.compile(r"\{([^{},]*(?:,[^{},]*)+)\}")


@dataclass(frozen=True, slots=True)
class GlobMatches:
    """The files that a glob matches, sorted; `secret` were left out; `whole` unless the tree is too large to know."""

    paths: tuple[RootedPath, ...]
    secret_count: int = 0
    complete: bool = True


def is_glob(name: str) -> bool:
    return GLOB_CHARACTER.search(name) is not None


def match_glob(glob: str, policy: FilePolicy, roots: Roots) -> GlobMatches:
    """The files below the roots that a glob matches; hidden ones never, nor what git ignores.

    Raises:
        RequestError: it is too long, leaves the roots, or starts at a directory that is not there.
    """
    if len(glob) > MAX_GLOB_CHARS:
        raise RequestError(f"The glob {quote_name(glob, 40)} is too long; at most {MAX_GLOB_CHARS} characters.")
    spots: dict[RootedPath, None] = {}
    secret, whole = 0, True
    for each in _expand_braces(glob):
        found = _match_alternative(each, policy, roots)
        spots |= dict.fromkeys(found.paths)
        secret, whole = secret + found.secret_count, whole and found.complete
    return GlobMatches(tuple(spots), secret, whole)


def _match_alternative(glob: str, policy: FilePolicy, roots: Roots) -> GlobMatches:
    fixed, segments = _split_fixed_prefix(glob)
    if ".." in segments or sum(part.count("*") for part in segments) > MAX_STARS:
        raise RequestError(f"The glob {quote_name(glob)} is too intricate; name a directory first and fewer stars.")
    if not segments:  # an alternative without a star
        found = resolve_path.resolve_name(glob, policy, roots)
        return GlobMatches((found,)) if _is_file(found, roots) else GlobMatches(())
    with resolve_path.open_named(fixed or ".", policy, roots) as base:
        if not base.is_directory:
            raise RequestError(f"{quote_name(fixed)} is a file; the glob {quote_name(glob)} begins there.")
        start = base.rooted_path
    if ".git" in start.parts:
        raise RequestError(f"Globs do not look into .git: {quote_name(glob)}.")
    names, whole = gitignore_walk.walk_files(start, roots)
    pattern = [None if part == "**" else re.compile(translate(part)) for part in _collapse_double_stars(segments)]
    found = [name for name in names if not _is_hidden(name, segments) and _matches_components(pattern, name)]
    spots = [start.joinpath(*name) for name in found]
    open_ones = [spot for spot in spots if not secret_names.matching_pattern(spot.parts, policy.allow_secret_names)]
    return GlobMatches(tuple(open_ones), len(spots) - len(open_ones), whole)


def no_match_error(glob: str, policy: FilePolicy, roots: Roots) -> RequestError:
    """What to say when a glob matches no file, and where such files are."""
    said = f"No file matches {quote_name(glob)} (hidden files and what git ignores are left out)."
    last = glob.rpartition("/")[2]
    if is_glob(glob) and last and last != "**" and not glob.startswith("**"):
        try:
            wider = match_glob(f"**/{last}", policy, roots).paths
        except RequestError:
            wider = ()
        if wider:
            return RequestError(
                f"{said} {quote_name('**/' + last)} would match {len(wider):,}, e.g. "
                f"{quote_name(roots.display_path(wider[0]))}.",
                kind="not_found",
            )
    return RequestError(f"{said} {roots_sentence(policy)}", kind="not_found")


def _split_fixed_prefix(glob: str) -> tuple[str, list[str]]:
    """The directory before the first component with magic, and the components from there."""
    parts = glob.replace("\\", "/").split("/") if sandbox.os.sep == "\\" else glob.split("/")
    first = next((n for n, part in enumerate(parts) if GLOB_CHARACTER.search(part)), len(parts))
    fixed = "/".join(parts[:first]) or ("/" if glob.startswith("/") else "")
    return fixed, [part for part in parts[first:] if part not in {"", "."}]


def _collapse_double_stars(segments: Sequence[str]) -> Iterator[str]:
    """The components, with `**` once where it stands several times; at the end it means every file below."""
    before = ""
    for part in (*segments, "*") if segments[-1] == "**" else segments:
        if not part == before == "**":
            yield part
        before = part


def _matches_components(pattern: Sequence[re.Pattern[str] | None], name: Sequence[str]) -> bool:
    """Whether the components match: the places in the pattern reached so far, moved on by one component at a time."""
    reached = _skip_double_stars({0}, pattern)
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
        reached = _skip_double_stars(after, pattern)
        if not reached:
            return False
    return len(pattern) in reached


def _skip_double_stars(reached: set[int], pattern: Sequence[re.Pattern[str] | None]) -> set[int]:
    """`**` may stand for nothing."""
    for at in sorted(reached):
        here = at
        while here < len(pattern) and pattern[here] is None:
            here += 1
            reached.add(here)
    return reached


def _is_hidden(name: Sequence[str], segments: Sequence[str]) -> bool:
    """Whether a file is hidden, or in a hidden directory that the glob does not name."""
    return name[-1].startswith(".") or any(part.startswith(".") and part not in segments for part in name[:-1])


def _expand_braces(glob: str) -> list[str]:
    waiting, found = [glob], list[str]()
    while waiting:
        each = waiting.pop(0)
        braces = _BRACES.search(each)
        if braces is None:
            found.append(each)
        else:
            waiting += [each[: braces.start()] + one + each[braces.end() :] for one in braces[1].split(",")]
        if len(waiting) + len(found) > MAX_ALTERNATIVES:
            raise RequestError(f"The glob {quote_name(glob)} has more than {MAX_ALTERNATIVES} alternatives.")
    return found


def _is_file(rooted_path: RootedPath, roots: Roots) -> bool:
    try:
        with sandbox.open_in_roots(rooted_path, roots) as found:
            return not found.is_directory
    except sandbox.SandboxError:
        return False
