"""The content blocks of one call's files, as they are put together: what is sent, what is refused, what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from mcp_server_claude.files.sandbox import RootedPath, Roots, SandboxError
from mcp_server_claude.files.url_references import FileIdReference, InlineContent, UrlReference

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Block
    from mcp_server_claude.files.content_types import FileContent
    from mcp_server_claude.files.roots import FilePolicy
    from mcp_server_claude.files.url_references import Reference

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Text that code reads better than Claude does."""
DATA_SUFFIXES = (
    *(".xlsx", ".xls", ".xlsm", ".ods", ".docx", ".pptx", ".parquet", ".feather", ".arrow", ".avro", ".sqlite", ".db"),
    *(".npy", ".npz", ".h5", ".mat", ".sav", ".dta", ".zip", ".gz", ".tar", ".wav", ".tiff", ".tif", ".bmp"),
)
"""What is data by its name, where Claude cannot be shown it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachments:
    """The blocks, how many files they hold, and sentences for the caller: what globs matched and what was left out.

    `names` are the paths of binary blocks, empty for others. Blocks of type `container_upload` hold bytes yet: they
    are uploaded, or left out, before anything is sent.
    """

    blocks: tuple[Block, ...] = ()
    block_paths: tuple[str, ...] = ()
    file_count: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on disk; `glob` is what matched it, empty when it was named."""

    rooted_path: RootedPath
    size: int
    glob: str = ""


class AttachmentBuilder:
    """The blocks of one call as they are put together; lives in that call alone."""

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
        """One more file.

        Raises:
            RequestError: it cannot be sent.
        """
        match item:
            case LocalFile():
                self._add_local_file(item)
            case InlineContent(content=content, path=path):
                self._add_content(content, path, quote_name(path))
            case UrlReference(url=url, block_type=sort):
                self._check_supported(sort, quote_name(url))
                self._append_blocks(
                    *([content_blocks.label_block(index=self._file_count + 1, path=url)] if sort == "image" else [])
                )
                self._append_blocks(content_blocks.url_block(url, sort), last=True)
            case FileIdReference(id=name, block_type=sort):
                self._check_supported(sort, quote_name(name))
                self._append_blocks(content_blocks.file_id_block(name, sort), last=True)

    def skip_too_large(self, item: LocalFile | Reference) -> bool:
        """Whether it is left out unread: a glob matched it, and it is too large."""
        if not (isinstance(item, LocalFile) and item.glob and item.size > self._policy.max_file_bytes):
            return False
        most = format_bytes(self._policy.max_file_bytes)
        self._skipped.append(
            f"{quote_name(self._roots.display_path(item.rooted_path), 60)} is {format_bytes(item.size)} large "
            f"(at most {most})"
        )
        return True

    def to_attachments(self) -> Attachments:
        """What came together.

        Raises:
            RequestError: globs matched only what cannot be sent.
        """
        if self._skipped:
            count = len(self._skipped)
            were = "was" if count == 1 else "were"
            what = f"{count:,} matched {file_noun(count)} cannot be sent and {were} left out"
            self.notes.append(f"{what}: {', '.join(self._skipped[:5])}.")
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
        except SandboxError as blocked:
            raise resolve_path.explain_sandbox_error(path, blocked, self._policy, self._roots) from None
        if file.glob and (reason := self._skip_reason(content, path)):
            self._skipped.append(f"{quote_name(path, 60)} is {reason}")
        else:
            self._add_content(content, path, quote_name(path))

    def _read_content(self, rooted_path: RootedPath) -> FileContent:
        """What the file is now; it may have grown or gone since it was found, but it is no link now."""
        with sandbox.open_in_roots(rooted_path, self._roots, follow=False) as file:
            if file.is_directory:
                raise SandboxError("changed", rooted_path)
            if file.stat_result.st_size > self._policy.max_file_bytes:
                raise file_too_large_error(
                    quote_name(self._roots.display_path(rooted_path)), file.stat_result.st_size, self._policy
                )
            return detect_content(file.read(self._policy.max_file_bytes))

    def _skip_reason(self, content: FileContent, path: str) -> str:
        """Why a file that a glob matched is left out, empty when it is not; for code what looks like data is not."""
        match content:
            case UnsupportedFile(data=data) if data and self._policy.for_code and path.lower().endswith(DATA_SUFFIXES):
                return ""
            case UnsupportedFile(description=name):
                return name
            case ImageFile() if not self._supports["image"]:
                return "an image, which the model does not take"
            case PdfFile() if not self._supports["pdf"]:
                return "a PDF, which the model does not take"
            case _:
                return ""

    def _add_content(self, content: FileContent, path: str, quoted_name: str) -> None:
        index = self._file_count + 1
        match content:
            case TextFile(text=text) if self._policy.for_code and path.lower().endswith(TABLE_SUFFIXES):
                self._add_data_file(text.encode(), path)
            case TextFile(text=text):
                self._chars += len(text)
                if self._chars > self._policy.max_text_chars:
                    most = f"at most {self._policy.max_text_chars:,} characters of text can be sent"
                    raise RequestError(
                        f"With {quoted_name} these are {self._chars:,}; {most}. Name fewer.", kind="too_large"
                    )
                self._append_blocks(content_blocks.text_block(text, index=index, path=path), last=True)
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
            case UnsupportedFile(description=name):
                raise RequestError(
                    f"{quoted_name} is {name}. {SUPPORTED_TYPES}{self._policy.hint}"
                    if content.data
                    else f"{quoted_name} is {name}."
                )

    def _add_data_file(self, data: bytes, path: str) -> None:
        self._append_blocks(
            content_blocks.label_block(index=self._file_count + 1, path=path),
            content_blocks.data_file_block(data),
            name=path,
            last=True,
        )

    def _check_supported(self, block_type: str, quoted_name: str) -> None:
        """Refuse what the model does not take."""
        name = "image" if block_type == "image" else "pdf"
        if self._supports[name]:
            return
        takes = ["text", *(["PDF"] if self._supports["pdf"] else []), *(["images"] if self._supports["image"] else [])]
        wanted = "images" if name == "image" else "PDF or other documents"
        raise RequestError(
            f"{self._model} takes no {wanted}, only {' and '.join(takes)}: leave out {quoted_name} or name "
            "another model.",
            kind="unsupported",
        )

    def _check_image(self, content: ImageFile, quoted_name: str) -> None:
        """Refuse an image that the API would refuse, with every turn of a thread that holds it."""
        if not content.width or not content.height:
            raise RequestError(f"{quoted_name} is a damaged image: its header gives no size.")
        if max(content.width, content.height) > MAX_IMAGE_SIDE_PX:
            measure = f"{content.width:,}×{content.height:,} pixels"
            raise RequestError(
                f"{quoted_name} is {measure}; at most {MAX_IMAGE_SIDE_PX:,} a side are taken.", kind="too_large"
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
    """The refusal of a file that is larger than the rules allow."""
    return RequestError(
        f"{quoted_name} is {format_bytes(count)} large; at most {format_bytes(policy.max_file_bytes)} can be "
        "sent. Name a part of it.",
        kind="too_large",
    )


def file_noun(count: int) -> str:
    """The noun that goes with a number."""
    return "file" if count == 1 else "files"
