"""Matches globs: `*` and `?` within a component, `[…]`, `**` over any number of directories, `{a,b}` for either.

Brackets that exist as they are written are taken as they are written: `app/[id]/*` where there is a directory `[id]`,
as web frameworks name them. Each component is matched by `fnmatch`, which is safe against patterns made to be slow, and
`**` is matched step by step, never by one large regular expression.
"""

from __future__ import annotations

import os
import re
from fnmatch import translate
from typing import TYPE_CHECKING

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import gitignore_walk, resolve_path, sandbox, secret_names
from mcp_server_claude.files.helper_processes import RunLimit
from mcp_server_claude.files.name_quoting import quote_name, roots_sentence
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mcp_server_claude.files.roots import FilePolicy
    from mcp_server_claude.files.sandbox import RootedPath, Roots

GLOB_CHARACTER = re.compile(r"[*?\[{]")
MAX_ALTERNATIVES = 32
MAX_STARS = 20
MAX_GLOB_CHARS = 500
_BRACES = re.compile(r"\{([^{},]*(?:,[^{},]*)+)\}")
_BRACKETS = re.compile(r"\[+[^\[\]]*\]+")


@frozen_dataclass()
class GlobMatches:
    """The files that a glob matches, sorted; `secret_count` more look like secrets and are left out; `complete` is
    false where the tree is too large to search whole.
    """

    paths: tuple[RootedPath, ...]
    secret_count: int = 0
    complete: bool = True


def is_glob(name: str) -> bool:
    """True if a name has a character that means something in a glob."""
    return GLOB_CHARACTER.search(name) is not None


def match_glob(glob: str, policy: FilePolicy, roots: Roots, limit: RunLimit | None = None) -> GlobMatches:
    """The files below the roots that a glob matches, without hidden files and what git ignores.

    Raises:
        RequestError: It is too long, leaves the roots, or starts at a directory that does not exist.
    """
    if len(glob) > MAX_GLOB_CHARS:
        raise RequestError(f"The glob {quote_name(glob, 40)} is too long; at most {MAX_GLOB_CHARS} characters.")
    limit = limit or RunLimit()
    paths: dict[RootedPath, None] = {}
    secret_count, complete = 0, True
    for alternative in _expand_braces(glob):
        matches = _match_alternative(alternative, policy, roots, limit)
        paths |= dict.fromkeys(matches.paths)
        secret_count, complete = secret_count + matches.secret_count, complete and matches.complete
    return GlobMatches(tuple(paths), secret_count, complete)


def no_match_error(glob: str, policy: FilePolicy, roots: Roots, limit: RunLimit | None = None) -> RequestError:
    """The error for a glob that matches no file; it says where files of that name are."""
    message = f"No file matches {quote_name(glob)} (hidden files and what git ignores are left out)."
    last = glob.rpartition("/")[2]
    if is_glob(glob) and last and last != "**" and not glob.startswith("**"):
        try:
            wider = match_glob(f"**/{last}", policy, roots, limit).paths
        except RequestError:
            wider = ()
        if wider:
            example = quote_name(roots.display_path(wider[0]))
            return RequestError(
                f"{message} {quote_name('**/' + last)} would match {len(wider):,}, e.g. {example}.", kind="not_found"
            )
    return RequestError(f"{message} {roots_sentence(policy)}", kind="not_found")


def _match_alternative(glob: str, policy: FilePolicy, roots: Roots, limit: RunLimit) -> GlobMatches:
    fixed, segments = _split_fixed_prefix(glob, policy, roots)
    if ".." in segments or sum(part.count("*") for part in segments) > MAX_STARS:
        raise RequestError(f"The glob {quote_name(glob)} is too complex; begin with a directory, and use fewer stars.")
    if not segments:  # an alternative without a glob character
        rooted_path = resolve_path.resolve_name(fixed, policy, roots)
        return GlobMatches((rooted_path,) if _is_file(rooted_path, roots) else ())
    with resolve_path.open_named(fixed or ".", policy, roots) as base:
        if not base.is_directory:
            raise RequestError(f"{quote_name(fixed)} is a file; the glob {quote_name(glob)} begins there.")
        start = base.rooted_path
    if ".git" in start.parts:
        raise RequestError(f"Globs do not look into .git: {quote_name(glob)}.")
    names, complete = gitignore_walk.walk_files(start, roots, limit)
    segments = [_escape_existing_brackets(segment, names) for segment in segments]
    pattern = [None if part == "**" else re.compile(translate(part)) for part in _collapse_double_stars(segments)]
    matching = [name for name in names if not _is_hidden(name, segments) and _matches_components(pattern, name)]
    paths = [start.joinpath(*name) for name in matching]
    readable = [path for path in paths if not secret_names.matching_pattern(path.parts, policy.allow_secret_names)]
    return GlobMatches(tuple(readable), len(paths) - len(readable), complete)


def _split_fixed_prefix(glob: str, policy: FilePolicy, roots: Roots) -> tuple[str, list[str]]:
    """The path before the first component with a glob character, and the components from there.

    A component with brackets that exists as it is written belongs to the path.
    """
    parts = glob.replace("\\", "/").split("/") if os.sep == "\\" else glob.split("/")
    first = next((n for n, part in enumerate(parts) if GLOB_CHARACTER.search(part)), len(parts))
    while first < len(parts) and (
        not GLOB_CHARACTER.search(parts[first])
        or (_BRACKETS.search(parts[first]) and resolve_path.exists("/".join(parts[: first + 1]), policy, roots))
    ):
        first += 1
    fixed = "/".join(parts[:first]) or ("/" if glob.startswith("/") else "")
    return fixed, [part for part in parts[first:] if part not in {"", "."}]


def _escape_existing_brackets(segment: str, names: Sequence[Sequence[str]]) -> str:
    """The component of a glob with brackets escaped where a file or directory has them in its name."""

    def escape(match: re.Match[str]) -> str:
        literal = match[0]
        exists = any(literal in part for name in names for part in name)
        return literal.replace("[", "[[]") if exists else literal

    return _BRACKETS.sub(escape, segment)


def _collapse_double_stars(segments: Sequence[str]) -> Iterator[str]:
    """The components, with `**` once where it stands several times; at the end it means every file below."""
    previous = ""
    for part in (*segments, "*") if segments[-1] == "**" else segments:
        if not part == previous == "**":
            yield part
        previous = part


def _matches_components(pattern: Sequence[re.Pattern[str] | None], name: Sequence[str]) -> bool:
    """True if the components match, by the set of positions in the pattern that are reached after each of them."""
    reached = _skip_double_stars({0}, pattern)
    for part in name:
        after: set[int] = set()
        for position in reached:
            if position == len(pattern):
                continue
            step = pattern[position]
            if step is None:
                after.add(position)
            elif step.match(part):
                after.add(position + 1)
        reached = _skip_double_stars(after, pattern)
        if not reached:
            return False
    return len(pattern) in reached


def _skip_double_stars(reached: set[int], pattern: Sequence[re.Pattern[str] | None]) -> set[int]:
    """The positions and those behind each `**`, which may stand for nothing."""
    for start in sorted(reached):
        position = start
        while position < len(pattern) and pattern[position] is None:
            position += 1
            reached.add(position)
    return reached


def _is_hidden(name: Sequence[str], segments: Sequence[str]) -> bool:
    """True if a file is hidden, or in a hidden directory that the glob does not name."""
    return name[-1].startswith(".") or any(part.startswith(".") and part not in segments for part in name[:-1])


def _expand_braces(glob: str) -> list[str]:
    pending, alternatives = [glob], list[str]()
    while pending:
        each = pending.pop(0)
        braces = _BRACES.search(each)
        if braces is None:
            alternatives.append(each)
        else:
            pending += [each[: braces.start()] + one + each[braces.end() :] for one in braces[1].split(",")]
        if len(pending) + len(alternatives) > MAX_ALTERNATIVES:
            raise RequestError(f"The glob {quote_name(glob)} has more than {MAX_ALTERNATIVES} alternatives.")
    return alternatives


def _is_file(rooted_path: RootedPath, roots: Roots) -> bool:
    try:
        with sandbox.open_in_roots(rooted_path, roots) as file:
            return not file.is_directory
    except sandbox.SandboxError:
        return False
