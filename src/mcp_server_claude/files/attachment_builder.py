"""Builds the content blocks of one call's files, and refuses or skips what the model or the API does not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting
from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import content_blocks, resolve_path, sandbox
from mcp_server_claude.files.content_types import (
    MANY_IMAGES_THRESHOLD,
    MAX_IMAGE_SIDE_PX,
    MAX_MANY_IMAGE_SIDE_PX,
    ImageFile,
    PdfFile,
    TextFile,
    UnsupportedFile,
    detect_content,
)
from mcp_server_claude.files.name_quoting import SUPPORTED_TYPES, format_bytes, quote_name
from mcp_server_claude.files.path_spellings import LineRange
from mcp_server_claude.files.sandbox import RootedPath, Roots, SandboxError
from mcp_server_claude.files.url_references import FileIdReference, InlineContent, UrlReference
from mcp_server_claude.frozen_dataclass import frozen_dataclass

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Block
    from mcp_server_claude.files.content_types import FileContent
    from mcp_server_claude.files.roots import FilePolicy
    from mcp_server_claude.files.url_references import Reference

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Suffixes of text that goes to code as a file rather than into the prompt."""
DATA_SUFFIXES = (
    *(".xlsx", ".xls", ".xlsm", ".ods", ".docx", ".pptx", ".parquet", ".feather", ".arrow", ".avro", ".sqlite", ".db"),
    *(".npy", ".npz", ".h5", ".mat", ".sav", ".dta", ".zip", ".gz", ".tar", ".wav", ".tiff", ".tif", ".bmp"),
)
"""Suffixes of binary files that a glob may add for code, though Claude cannot be shown them."""


@frozen_dataclass(kw_only=True)
class Attachments:
    """Content blocks, the number of files in them, and notes for the caller on globs and on files that were left out.

    `block_paths` has the path of each binary block, empty for others. Blocks of type `container_upload` still hold
    bytes: they are uploaded, or left out, before the request is sent.
    """

    blocks: tuple[Block, ...] = ()
    block_paths: tuple[str, ...] = ()
    file_count: int = 0
    notes: tuple[str, ...] = ()


@frozen_dataclass()
class LocalFile:
    """A file on disk of `size` bytes. `glob` matched it, or is empty where the caller named the file; with `lines` only
    those are sent.
    """

    rooted_path: RootedPath
    size: int
    glob: str = ""
    lines: LineRange | None = None


class AttachmentBuilder:
    """Collects the blocks of one call; not shared between calls."""

    def __init__(
        self, policy: FilePolicy, roots: Roots, *, supports_images: bool, supports_pdf: bool, model: str
    ) -> None:
        self._policy = policy
        self._roots = roots
        self._supports = {"image": supports_images, "pdf": supports_pdf}
        self._model = model
        self._blocks: list[Block] = []
        self._block_paths: list[str] = []
        self._file_count = 0
        self._bytes = 0
        self._chars = 0
        self._images = 0
        self._oversized_image = ""
        self._skipped: list[str] = []
        self.notes: list[str] = []

    def add_file(self, item: LocalFile | Reference) -> None:
        """Add one file.

        Raises:
            RequestError: It cannot be sent.
        """
        match item:
            case LocalFile():
                self._add_local_file(item)
            case InlineContent(content=content, path=path):
                self._add_content(content, path, quote_name(path))
            case UrlReference(url=url, block_type=block_type):
                self._check_supported(block_type, quote_name(url))
                if block_type == "image":
                    self._append_blocks(content_blocks.label_block(index=self._file_count + 1, path=url))
                self._append_blocks(content_blocks.url_block(url, block_type), last=True)
            case FileIdReference(id=file_id, block_type=block_type):
                self._check_supported(block_type, quote_name(file_id))
                self._append_blocks(content_blocks.file_id_block(file_id, block_type), last=True)

    def skip_too_large(self, item: LocalFile | Reference) -> bool:
        """Skip a file that a glob matched and that is too large, and note it; returns whether it was skipped."""
        if not (isinstance(item, LocalFile) and item.glob and item.size > self._policy.max_file_bytes):
            return False
        path = quote_name(self._roots.display_path(item.rooted_path), 60)
        limit = format_bytes(self._policy.max_file_bytes)
        self._skipped.append(f"{path} is {format_bytes(item.size)} large (at most {limit})")
        return True

    def to_attachments(self) -> Attachments:
        """The blocks and notes so far.

        Raises:
            RequestError: Globs matched only files that cannot be sent.
        """
        if self._skipped:
            count = len(self._skipped)
            were = "was" if count == 1 else "were"
            summary = f"{number_formatting.format_count(count, 'matched file')} cannot be sent and {were} left out"
            self.notes.append(f"{summary}: {', '.join(self._skipped[:5])}.")
            if not self._blocks:
                raise RequestError(f"{self.notes[-1]} {SUPPORTED_TYPES}{self._policy.hint}")
        return Attachments(
            blocks=tuple(self._blocks),
            block_paths=tuple(self._block_paths),
            file_count=self._file_count,
            notes=tuple(self.notes),
        )

    def _add_local_file(self, file: LocalFile) -> None:
        path = self._roots.display_path(file.rooted_path)
        try:
            content = self._read_content(file.rooted_path)
        except SandboxError as error:
            raise resolve_path.explain_sandbox_error(path, error, self._policy, self._roots) from None
        if file.lines is not None:
            self._add_lines(content, path, file.lines)
        elif file.glob and (reason := self._skip_reason(content, path)):
            self._skipped.append(f"{quote_name(path, 60)} is {reason}")
        else:
            self._add_content(content, path, quote_name(path))

    def _read_content(self, rooted_path: RootedPath) -> FileContent:
        """Read a file again, without following links: it may have grown, gone or become a link since it was found."""
        with sandbox.open_in_roots(rooted_path, self._roots, follow=False) as file:
            if file.is_directory:
                raise SandboxError("changed", rooted_path)
            if file.stat_result.st_size > self._policy.max_file_bytes:
                raise file_too_large_error(
                    quote_name(self._roots.display_path(rooted_path)), file.stat_result.st_size, self._policy
                )
            return detect_content(file.read(self._policy.max_file_bytes))

    def _skip_reason(self, content: FileContent, path: str) -> str:
        """The reason to leave out a file that a glob matched, else empty. Data files stay where code can read them."""
        match content:
            case UnsupportedFile(data=data) if data and self._policy.for_code and path.lower().endswith(DATA_SUFFIXES):
                return ""
            case UnsupportedFile(description=description):
                return description
            case ImageFile() if not self._supports["image"]:
                return "an image, which the model does not take"
            case PdfFile() if not self._supports["pdf"]:
                return "a PDF, which the model does not take"
            case _:
                return ""

    def _add_lines(self, content: FileContent, path: str, lines: LineRange) -> None:
        if not isinstance(content, TextFile):
            raise RequestError(f"{quote_name(path)} is not a text file, so it has no lines {lines}.")
        rows = content.lines()
        if lines.first > len(rows):
            length = number_formatting.format_count(len(rows), "line")
            message = f"{quote_name(path)} has {length}; line {lines.first:,} is after its end."
            raise RequestError(message)
        sent = LineRange(lines.first, min(lines.last, len(rows)))
        text = "\n".join(rows[sent.first - 1 : sent.last])
        self._add_text(text, path, quote_name(path), f"{sent} of {len(rows)}")

    def _add_text(self, text: str, path: str, quoted_name: str, lines: str = "") -> None:
        self._chars += len(text)
        if self._chars > self._policy.max_text_chars:
            limit = f"at most {self._policy.max_text_chars:,} characters of text can be sent"
            raise RequestError(
                f"With {quoted_name} these are {self._chars:,} characters; {limit}. Name fewer files.", kind="too_large"
            )
        block = content_blocks.text_block(text, index=self._file_count + 1, path=path, lines=lines)
        self._append_blocks(block, last=True)

    def _add_content(self, content: FileContent, path: str, quoted_name: str) -> None:
        index = self._file_count + 1
        match content:
            case TextFile(text=text) if self._policy.for_code and path.lower().endswith(TABLE_SUFFIXES):
                self._add_data_file(text.encode(), path)
            case TextFile(text=text):
                self._add_text(text, path, quoted_name)
            case PdfFile(data=data):
                self._check_supported("pdf", quoted_name)
                self._append_blocks(content_blocks.pdf_block(data, path=path), name=path, last=True)
            case ImageFile():
                self._check_supported("image", quoted_name)
                self._check_image(content, quoted_name)
                self._append_blocks(
                    content_blocks.label_block(index=index, path=path),
                    content_blocks.image_block(content),
                    name=path,
                    last=True,
                )
            case UnsupportedFile(data=data) if data and self._policy.for_code:
                self._add_data_file(data, path)
            case UnsupportedFile(description=description):
                hint = f" {SUPPORTED_TYPES}{self._policy.hint}" if content.data else ""
                raise RequestError(f"{quoted_name} is {description}.{hint}")

    def _add_data_file(self, data: bytes, path: str) -> None:
        self._append_blocks(
            content_blocks.label_block(index=self._file_count + 1, path=path),
            content_blocks.data_file_block(data),
            name=path,
            last=True,
        )

    def _check_supported(self, block_type: str, quoted_name: str) -> None:
        """Refuse a type of block that the model does not take."""
        is_image = block_type == "image"
        if self._supports["image" if is_image else "pdf"]:
            return
        taken = ["text", *(["PDF"] if self._supports["pdf"] else []), *(["images"] if self._supports["image"] else [])]
        refused = "images" if is_image else "PDF or other documents"
        raise RequestError(
            f"{self._model} takes no {refused}, only {' and '.join(taken)}: leave out {quoted_name} or name another "
            "model.",
            kind="unsupported",
        )

    def _check_image(self, content: ImageFile, quoted_name: str) -> None:
        """Refuse an image that the API would refuse in this and every later turn of the thread."""
        if not content.width or not content.height:
            raise RequestError(f"{quoted_name} is a damaged image: its header gives no size.")
        if max(content.width, content.height) > MAX_IMAGE_SIDE_PX:
            pixels = f"{content.width:,}×{content.height:,} pixels"
            raise RequestError(
                f"{quoted_name} is {pixels}; the limit is {MAX_IMAGE_SIDE_PX:,} a side.", kind="too_large"
            )
        self._images += 1
        if max(content.width, content.height) > MAX_MANY_IMAGE_SIDE_PX:
            self._oversized_image = quoted_name
        if self._images > MANY_IMAGES_THRESHOLD and self._oversized_image:
            raise RequestError(
                f"{self._oversized_image} is larger than {MAX_MANY_IMAGE_SIDE_PX:,} pixels a side, which no "
                "image may be when more than "
                f"{MANY_IMAGES_THRESHOLD} are sent.",
                kind="too_large",
            )

    def _append_blocks(self, *new: Block, name: str = "", last: bool = False) -> None:
        self._bytes += sum(map(content_blocks.encoded_size, new))
        if self._bytes > self._policy.max_total_bytes:
            raise RequestError(
                f"The files are more than {format_bytes(self._policy.max_total_bytes)} as they are sent (PDF "
                "and images grow "
                "by a third). Name fewer or smaller ones.",
                kind="too_large",
            )
        self._blocks += new
        self._block_paths += [name] * len(new)
        self._file_count += last


def file_too_large_error(quoted_name: str, count: int, policy: FilePolicy) -> RequestError:
    """The error for a file that is larger than the policy allows."""
    return RequestError(
        f"{quoted_name} is {format_bytes(count)} large; at most {format_bytes(policy.max_file_bytes)} can be "
        "sent. Name a part of it.",
        kind="too_large",
    )
