"""The content blocks of one call's files, as they are put together: what is sent, what is refused, what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.errors import Refused
from mcp_server_claude.files import content_blocks, resolve_path, sandbox
from mcp_server_claude.files.content_types import (
    LARGEST_IMAGE,
    LARGEST_OF_MANY,
    MANY_IMAGES,
    Image,
    Other,
    Pdf,
    Text,
    kind,
)
from mcp_server_claude.files.name_quoting import TAKEN, shown, size
from mcp_server_claude.files.sandbox import Blocked, Ground, Spot
from mcp_server_claude.files.url_references import FileId, Inline, Url

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Block
    from mcp_server_claude.files.content_types import Kind
    from mcp_server_claude.files.roots import Rules
    from mcp_server_claude.files.url_references import Reference

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Text that code reads better than Claude does."""
DATA = (
    *(".xlsx", ".xls", ".xlsm", ".ods", ".docx", ".pptx", ".parquet", ".feather", ".arrow", ".avro", ".sqlite", ".db"),
    *(".npy", ".npz", ".h5", ".mat", ".sav", ".dta", ".zip", ".gz", ".tar", ".wav", ".tiff", ".tif", ".bmp"),
)
"""What is data by its name, where Claude cannot be shown it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """The blocks, how many files they hold, and sentences for the caller: what globs matched and what was left out.

    `names` are the paths of binary blocks, empty for others. Blocks of type `container_upload` hold bytes yet: they
    are uploaded, or left out, before anything is sent.
    """

    blocks: tuple[Block, ...] = ()
    names: tuple[str, ...] = ()
    files: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A file on disk; `glob` is what matched it, empty when it was named."""

    spot: Spot
    bytes: int
    glob: str = ""


class Tray:
    """The blocks of one call as they are put together; lives in that call alone."""

    def __init__(self, rules: Rules, ground: Ground, *, takes_images: bool, takes_pdf: bool, model: str) -> None:
        self._rules = rules
        self._ground = ground
        self._takes = {"image": takes_images, "pdf": takes_pdf}
        self._model = model
        self._blocks: list[Block] = []
        self._names: list[str] = []
        self._files = 0
        self._bytes = 0
        self._chars = 0
        self._images = 0
        self._large = ""
        self._left_out: list[str] = []
        self.notes: list[str] = []

    def put(self, item: Found | Reference) -> None:
        """One more file.

        Raises:
            Refused: it cannot be sent.
        """
        match item:
            case Found():
                self._put_file(item)
            case Inline(content=content, path=path):
                self._put_content(content, path, shown(path))
            case Url(url=url, sort=sort):
                self._permit(sort, shown(url))
                self._add(*([content_blocks.label(index=self._files + 1, path=url)] if sort == "image" else []))
                self._add(content_blocks.at_url(url, sort), last=True)
            case FileId(id=name, sort=sort):
                self._permit(sort, shown(name))
                self._add(content_blocks.by_id(name, sort), last=True)

    def leaves_out(self, item: Found | Reference) -> bool:
        """Whether it is left out unread: a glob matched it, and it is too large."""
        if not (isinstance(item, Found) and item.glob and item.bytes > self._rules.max_file_bytes):
            return False
        most = size(self._rules.max_file_bytes)
        self._left_out.append(
            f"{shown(self._ground.label(item.spot), 60)} is {size(item.bytes)} large (at most {most})"
        )
        return True

    def gathered(self) -> Gathered:
        """What came together.

        Raises:
            Refused: globs matched only what cannot be sent.
        """
        if self._left_out:
            count = len(self._left_out)
            were = "was" if count == 1 else "were"
            what = f"{count:,} matched {files(count)} cannot be sent and {were} left out"
            self.notes.append(f"{what}: {', '.join(self._left_out[:5])}.")
            if not self._blocks:
                raise Refused(f"{self.notes[-1]} {TAKEN}{self._rules.hint}")
        return Gathered(
            blocks=tuple(self._blocks), names=tuple(self._names), files=self._files, notes=tuple(self.notes)
        )

    def _put_file(self, found: Found) -> None:
        path = self._ground.label(found.spot)
        try:
            content = self._content(found.spot)
        except Blocked as blocked:
            raise resolve_path.refusal(path, blocked, self._rules, self._ground) from None
        if found.glob and (reason := self._unfit(content, path)):
            self._left_out.append(f"{shown(path, 60)} is {reason}")
        else:
            self._put_content(content, path, shown(path))

    def _content(self, spot: Spot) -> Kind:
        """What the file is now; it may have grown or gone since it was found, but it is no link now."""
        with sandbox.opened(spot, self._ground, follow=False) as file:
            if file.is_directory:
                raise Blocked("changed", spot)
            if file.seen.st_size > self._rules.max_file_bytes:
                raise too_large(shown(self._ground.label(spot)), file.seen.st_size, self._rules)
            return kind(file.read(self._rules.max_file_bytes))

    def _unfit(self, content: Kind, path: str) -> str:
        """Why a file that a glob matched is left out, empty when it is not; for code what looks like data is not."""
        match content:
            case Other(data=data) if data and self._rules.for_code and path.lower().endswith(DATA):
                return ""
            case Other(name=name):
                return name
            case Image() if not self._takes["image"]:
                return "an image, which the model does not take"
            case Pdf() if not self._takes["pdf"]:
                return "a PDF, which the model does not take"
            case _:
                return ""

    def _put_content(self, content: Kind, path: str, said: str) -> None:
        index = self._files + 1
        match content:
            case Text(text=text) if self._rules.for_code and path.lower().endswith(TABLES):
                self._put_data(text.encode(), path)
            case Text(text=text):
                self._chars += len(text)
                if self._chars > self._rules.max_text_chars:
                    most = f"at most {self._rules.max_text_chars:,} characters of text can be sent"
                    raise Refused(f"With {said} these are {self._chars:,}; {most}. Name fewer.", kind="too_large")
                self._add(content_blocks.text(text, index=index, path=path), last=True)
            case Pdf(data=data):
                self._permit("pdf", said)
                self._add(content_blocks.pdf(data, path=path), name=path, last=True)
            case Image():
                self._permit("image", said)
                self._sound(content, said)
                self._add(
                    content_blocks.label(index=index, path=path), content_blocks.image(content), name=path, last=True
                )
            case Other(data=data) if data and self._rules.for_code:
                self._put_data(data, path)
            case Other(name=name):
                raise Refused(f"{said} is {name}. {TAKEN}{self._rules.hint}" if content.data else f"{said} is {name}.")

    def _put_data(self, data: bytes, path: str) -> None:
        self._add(
            content_blocks.label(index=self._files + 1, path=path), content_blocks.data_file(data), name=path, last=True
        )

    def _permit(self, sort: str, said: str) -> None:
        """Refuse what the model does not take."""
        name = "image" if sort == "image" else "pdf"
        if self._takes[name]:
            return
        takes = ["text", *(["PDF"] if self._takes["pdf"] else []), *(["images"] if self._takes["image"] else [])]
        wanted = "images" if name == "image" else "PDF or other documents"
        raise Refused(
            f"{self._model} takes no {wanted}, only {' and '.join(takes)}: leave out {said} or name another model.",
            kind="unsupported",
        )

    def _sound(self, content: Image, said: str) -> None:
        """Refuse an image that the API would refuse, with every turn of a thread that holds it."""
        if not content.width or not content.height:
            raise Refused(f"{said} is a damaged image: its header gives no size.")
        if max(content.width, content.height) > LARGEST_IMAGE:
            measure = f"{content.width:,}×{content.height:,} pixels"
            raise Refused(f"{said} is {measure}; at most {LARGEST_IMAGE:,} a side are taken.", kind="too_large")
        self._images += 1
        if max(content.width, content.height) > LARGEST_OF_MANY:
            self._large = said
        if self._images > MANY_IMAGES and self._large:
            raise Refused(
                f"{self._large} is larger than {LARGEST_OF_MANY:,} pixels a side, which no image may be when more than "
                f"{MANY_IMAGES} are sent.",
                kind="too_large",
            )

    def _add(self, *new: Block, name: str = "", last: bool = False) -> None:
        self._bytes += sum(map(content_blocks.weight, new))
        if self._bytes > self._rules.max_total_bytes:
            raise Refused(
                f"The files are more than {size(self._rules.max_total_bytes)} as they are sent (PDF and images grow "
                "by a third). Name fewer or smaller ones.",
                kind="too_large",
            )
        self._blocks += new
        self._names += [name] * len(new)
        self._files += last


def too_large(said: str, count: int, rules: Rules) -> Refused:
    """The refusal of a file that is larger than the rules allow."""
    return Refused(
        f"{said} is {size(count)} large; at most {size(rules.max_file_bytes)} can be sent. Name a part of it.",
        kind="too_large",
    )


def files(count: int) -> str:
    """The noun that goes with a number."""
    return "file" if count == 1 else "files"
