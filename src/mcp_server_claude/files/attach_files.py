"""What a caller names in `files`, in the caller's order, as content blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import glob_patterns, resolve_path, sandbox, secret_names
from mcp_server_claude.files.attachment_builder import AttachmentBuilder, LocalFile, file_noun, file_too_large_error
from mcp_server_claude.files.name_quoting import ALLOW_FILES_SETTING, format_bytes, quote_name, quote_names
from mcp_server_claude.files.sandbox import Roots, SandboxError
from mcp_server_claude.files.url_references import Reference, parse_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.call_types import Block
    from mcp_server_claude.files.attachment_builder import Attachments
    from mcp_server_claude.files.roots import FilePolicy


_Attachable: TypeAlias = "LocalFile | Reference"


def attachment_blocks(
    names: Sequence[str], policy: FilePolicy, *, images: bool, pdf: bool, model: str
) -> tuple[Block, ...]:
    """The content blocks for what a caller names; see `build_attachments`, which also tells what globs matched."""
    return build_attachments(names, policy, images=images, pdf=pdf, model=model).blocks


def build_attachments(names: Sequence[str], policy: FilePolicy, *, images: bool, pdf: bool, model: str) -> Attachments:
    """The content blocks for paths, globs, https URLs, `data:` URIs and file ids; `images` and `pdf` are what `model`
    takes. Blocks on the disk: run it on a thread.

    Raises:
        RequestError: one cannot be sent, and what to name instead.
    """
    if len(names) > policy.max_files:
        raise RequestError(
            f"{len(names):,} files are named; at most {policy.max_files:,} can be sent.", kind="too_large"
        )
    ground = Roots.from_policy(policy)
    tray = AttachmentBuilder(policy, ground, supports_images=images, supports_pdf=pdf, model=model)
    items: dict[object, _Attachable] = {}
    for name in names:
        for item in _parse_entry(name, policy, ground, tray):
            key = item.rooted_path if isinstance(item, LocalFile) else item
            before = items.setdefault(key, item)
            if isinstance(item, LocalFile) and not item.glob and isinstance(before, LocalFile):
                items[key] = item  # named itself: then it is not left out
        if len(items) > policy.max_files:
            raise RequestError(
                f"With {quote_name(name)} these are {len(items):,} files; at most {policy.max_files:,} can be sent. "
                "Name fewer, or a narrower glob.",
                kind="too_large",
            )
    kept = [item for item in items.values() if not tray.skip_too_large(item)]
    _check_sizes(kept, policy)
    for item in kept:
        tray.add_file(item)
    return tray.to_attachments()


def _parse_entry(name: str, policy: FilePolicy, roots: Roots, builder: AttachmentBuilder) -> Sequence[_Attachable]:
    if other := parse_reference(name, policy):
        return (other,)
    if glob_patterns.is_glob(name) and not _exists(name, policy, roots):
        return _expand_glob(name, policy, roots, builder)
    with resolve_path.open_named(name, policy, roots) as found:
        if found.is_directory:
            raise resolve_path.is_directory_error(name, found)
        return (LocalFile(found.rooted_path, found.stat_result.st_size),)


def _exists(name: str, policy: FilePolicy, roots: Roots) -> bool:
    """Whether a name with stars or brackets in it is a file's own (`app/[id]/page.tsx`)."""
    try:
        with resolve_path.open_named(name, policy, roots):
            return True
    except RequestError:
        return False


def _expand_glob(glob: str, policy: FilePolicy, roots: Roots, builder: AttachmentBuilder) -> list[LocalFile]:
    matched = glob_patterns.match_glob(glob, policy, roots)
    count = len(matched.paths)
    if count > policy.max_files:
        least = "" if matched.complete else "at least "
        raise RequestError(
            f"{quote_name(glob)} matches {least}{count:,} files; at most {policy.max_files:,} can be sent. "
            f"Name a directory or an ending: {quote_names([roots.display_path(spot) for spot in matched.paths], 3)}.",
            kind="too_large",
        )
    found: list[LocalFile] = []
    for spot in matched.paths:
        try:
            with sandbox.open_in_roots(spot, roots) as each:
                secret = secret_names.matching_pattern(each.rooted_path.parts, policy.allow_secret_names)
                if not each.is_directory and not secret:
                    found.append(LocalFile(each.rooted_path, each.stat_result.st_size, glob))
        except SandboxError:  # git lists what was deleted; links may lead anywhere
            continue
    if not found and matched.secret_count:
        raise RequestError(
            f"What {quote_name(glob)} matches may hold secrets, by its names. The operator can allow names in "
            f"{ALLOW_FILES_SETTING}."
        )
    if not found:
        raise glob_patterns.no_match_error(glob, policy, roots)
    left = matched.secret_count + count - len(found)
    parts = f"; {left:,} left out (secret-looking, links that lead out, or gone)" if left else ""
    short = "" if matched.complete else " The tree is too large to search whole."
    builder.notes.append(f"{quote_name(glob)} matched {len(found):,} {file_noun(len(found))}{parts}.{short}")
    return found


def _check_sizes(items: Sequence[_Attachable], policy: FilePolicy) -> None:
    """Refuse what is too large, before anything is read."""
    total = 0
    for item in items:
        if isinstance(item, LocalFile):
            total += item.size
            if item.size > policy.max_file_bytes:
                raise file_too_large_error(quote_name("/".join(item.rooted_path.parts)), item.size, policy)
    if total > policy.max_total_bytes:
        raise RequestError(
            f"The files are {format_bytes(total)} together; at most {format_bytes(policy.max_total_bytes)} can "
            "be sent. Name fewer.",
            kind="too_large",
        )
