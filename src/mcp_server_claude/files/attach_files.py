"""What a caller names in `files`, in the caller's order, as content blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mcp_server_claude.errors import Refused
from mcp_server_claude.files import glob_patterns, resolve_path, sandbox, secret_names
from mcp_server_claude.files.attachment_builder import Found, Tray, files, too_large
from mcp_server_claude.files.name_quoting import ALLOW, listed, shown, size
from mcp_server_claude.files.sandbox import Blocked, Ground
from mcp_server_claude.files.url_references import Reference, reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.call_types import Block
    from mcp_server_claude.files.attachment_builder import Gathered
    from mcp_server_claude.files.roots import Rules


_Item: TypeAlias = "Found | Reference"


def read(names: Sequence[str], rules: Rules, *, images: bool, pdf: bool, model: str) -> tuple[Block, ...]:
    """The content blocks for what a caller names; see `gather`, which also tells what globs matched."""
    return gather(names, rules, images=images, pdf=pdf, model=model).blocks


def gather(names: Sequence[str], rules: Rules, *, images: bool, pdf: bool, model: str) -> Gathered:
    """The content blocks for paths, globs, https URLs, `data:` URIs and file ids; `images` and `pdf` are what `model`
    takes. Blocks on the disk: run it on a thread.

    Raises:
        Refused: one cannot be sent, and what to name instead.
    """
    if len(names) > rules.max_files:
        raise Refused(f"{len(names):,} files are named; at most {rules.max_files:,} can be sent.", kind="too_large")
    ground = Ground.of(rules)
    tray = Tray(rules, ground, takes_images=images, takes_pdf=pdf, model=model)
    items: dict[object, _Item] = {}
    for name in names:
        for item in _items(name, rules, ground, tray):
            key = item.spot if isinstance(item, Found) else item
            before = items.setdefault(key, item)
            if isinstance(item, Found) and not item.glob and isinstance(before, Found):
                items[key] = item  # named itself: then it is not left out
        if len(items) > rules.max_files:
            raise Refused(
                f"With {shown(name)} these are {len(items):,} files; at most {rules.max_files:,} can be sent. "
                "Name fewer, or a narrower glob.",
                kind="too_large",
            )
    kept = [item for item in items.values() if not tray.leaves_out(item)]
    _fit(kept, rules)
    for item in kept:
        tray.put(item)
    return tray.gathered()


def _items(name: str, rules: Rules, ground: Ground, tray: Tray) -> Sequence[_Item]:
    if other := reference(name, rules):
        return (other,)
    if glob_patterns.is_glob(name) and not _is_there(name, rules, ground):
        return _by_glob(name, rules, ground, tray)
    with resolve_path.opened(name, rules, ground) as found:
        if found.is_directory:
            raise resolve_path.directory(name, found)
        return (Found(found.spot, found.seen.st_size),)


def _is_there(name: str, rules: Rules, ground: Ground) -> bool:
    """Whether a name with stars or brackets in it is a file's own (`app/[id]/page.tsx`)."""
    try:
        with resolve_path.opened(name, rules, ground):
            return True
    except Refused:
        return False


def _by_glob(glob: str, rules: Rules, ground: Ground, tray: Tray) -> list[Found]:
    matched = glob_patterns.matched(glob, rules, ground)
    count = len(matched.spots)
    if count > rules.max_files:
        least = "" if matched.whole else "at least "
        raise Refused(
            f"{shown(glob)} matches {least}{count:,} files; at most {rules.max_files:,} can be sent. "
            f"Name a directory or an ending: {listed([ground.label(spot) for spot in matched.spots], 3)}.",
            kind="too_large",
        )
    found: list[Found] = []
    for spot in matched.spots:
        try:
            with sandbox.opened(spot, ground) as each:
                secret = secret_names.why(each.spot.parts, rules.allow_secret_names)
                if not each.is_directory and not secret:
                    found.append(Found(each.spot, each.seen.st_size, glob))
        except Blocked:  # git lists what was deleted; links may lead anywhere
            continue
    if not found and matched.secret:
        raise Refused(
            f"What {shown(glob)} matches may hold secrets, by its names. The operator can allow names in {ALLOW}."
        )
    if not found:
        raise glob_patterns.nothing(glob, rules, ground)
    left = matched.secret + count - len(found)
    parts = f"; {left:,} left out (secret-looking, links that lead out, or gone)" if left else ""
    short = "" if matched.whole else " The tree is too large to search whole."
    tray.notes.append(f"{shown(glob)} matched {len(found):,} {files(len(found))}{parts}.{short}")
    return found


def _fit(items: Sequence[_Item], rules: Rules) -> None:
    """Refuse what is too large, before anything is read."""
    total = 0
    for item in items:
        if isinstance(item, Found):
            total += item.bytes
            if item.bytes > rules.max_file_bytes:
                raise too_large(shown("/".join(item.spot.parts)), item.bytes, rules)
    if total > rules.max_total_bytes:
        raise Refused(
            f"The files are {size(total)} together; at most {size(rules.max_total_bytes)} can be sent. Name fewer.",
            kind="too_large",
        )
