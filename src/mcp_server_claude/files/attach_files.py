"""Builds content blocks from the entries of `files`: paths, globs, https URLs, `data:` URIs and file ids, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mcp_server_claude import number_formatting
from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import glob_patterns, resolve_path, sandbox, secret_names
from mcp_server_claude.files.attachment_builder import AttachmentBuilder, LocalFile, file_too_large_error
from mcp_server_claude.files.helper_processes import RunLimit
from mcp_server_claude.files.name_quoting import ALLOW_FILES_SETTING, format_bytes, quote_name, quote_names
from mcp_server_claude.files.sandbox import Roots, SandboxError
from mcp_server_claude.files.url_references import Reference, parse_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.files.attachment_builder import Attachments
    from mcp_server_claude.files.roots import FilePolicy


_Attachable: TypeAlias = "LocalFile | Reference"


def build_attachments(
    names: Sequence[str],
    policy: FilePolicy,
    *,
    images: bool,
    pdf: bool,
    model: str,
    limit: RunLimit | None = None,
) -> Attachments:
    """The content blocks for the entries of `files`; `images` and `pdf` say what `model` takes.

    Blocks on the disk: run it on a thread, and cancel `limit` to end it early.

    Raises:
        RequestError: An entry cannot be sent; the message says what to name instead.
    """
    if len(names) > policy.max_files:
        message = f"{len(names):,} files are named; at most {policy.max_files:,} can be sent."
        raise RequestError(message, kind="too_large")
    limit = limit or RunLimit()
    roots = Roots.from_policy(policy)
    builder = AttachmentBuilder(policy, roots, supports_images=images, supports_pdf=pdf, model=model)
    items: dict[object, _Attachable] = {}
    for name in names:
        for item in _parse_entry(name, policy, roots, builder, limit):
            key = (item.rooted_path, item.lines) if isinstance(item, LocalFile) else item
            earlier = items.setdefault(key, item)
            if isinstance(item, LocalFile) and not item.glob and isinstance(earlier, LocalFile):
                items[key] = item  # a file that is named itself is not left out
        if len(items) > policy.max_files:
            raise RequestError(
                f"With {quote_name(name)} these are {len(items):,} files; at most {policy.max_files:,} can be sent. "
                "Name fewer, or a narrower glob.",
                kind="too_large",
            )
    attachable = [item for item in items.values() if not builder.skip_too_large(item)]
    _check_sizes(attachable, policy)
    for item in attachable:
        builder.add_file(item)
    return builder.to_attachments()


def _parse_entry(
    name: str, policy: FilePolicy, roots: Roots, builder: AttachmentBuilder, limit: RunLimit
) -> Sequence[_Attachable]:
    if reference := parse_reference(name, policy):
        return (reference,)
    named = resolve_path.choose_spelling(name, policy, roots)
    if glob_patterns.is_glob(named.path) and not resolve_path.exists(named.path, policy, roots):
        if named.lines is not None:
            raise RequestError(f"{quote_name(name)} is a glob with lines; name lines of one file at a time.")
        return _expand_glob(named.path, policy, roots, builder, limit)
    with resolve_path.open_named(named.path, policy, roots) as file:
        if file.is_directory:
            raise resolve_path.is_directory_error(named.path, file)
        return (LocalFile(file.rooted_path, file.stat_result.st_size, lines=named.lines),)


def _expand_glob(
    glob: str, policy: FilePolicy, roots: Roots, builder: AttachmentBuilder, limit: RunLimit
) -> list[LocalFile]:
    matches = glob_patterns.match_glob(glob, policy, roots, limit)
    count = len(matches.paths)
    if count > policy.max_files:
        at_least = "" if matches.complete else "at least "
        examples = quote_names([roots.display_path(path) for path in matches.paths], 3)
        raise RequestError(
            f"{quote_name(glob)} matches {at_least}{count:,} files; at most {policy.max_files:,} can be sent. "
            f"Name a directory or an ending: {examples}.",
            kind="too_large",
        )
    files: list[LocalFile] = []
    for path in matches.paths:
        try:
            with sandbox.open_in_roots(path, roots) as file:
                secret = secret_names.matching_pattern(file.rooted_path.parts, policy.allow_secret_names)
                if not file.is_directory and not secret:
                    files.append(LocalFile(file.rooted_path, file.stat_result.st_size, glob))
        except SandboxError:  # git lists deleted files, and links may lead anywhere
            continue
    if not files and matches.secret_count:
        raise RequestError(
            f"The files that {quote_name(glob)} matches may contain secrets, judging by their names. The operator "
            f"can allow names in {ALLOW_FILES_SETTING}."
        )
    if not files:
        raise glob_patterns.no_match_error(glob, policy, roots, limit)
    left_out = matches.secret_count + count - len(files)
    omitted = f"; {left_out:,} left out (secret-looking, links that lead out, or gone)" if left_out else ""
    incomplete = "" if matches.complete else " The tree is too large to search whole."
    builder.notes.append(
        f"{quote_name(glob)} matched {number_formatting.format_count(len(files), 'file')}{omitted}.{incomplete}"
    )
    return files


def _check_sizes(items: Sequence[_Attachable], policy: FilePolicy) -> None:
    """Refuse files that are too large, before any is read."""
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
