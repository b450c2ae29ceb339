"""Detects the type of a file by its bytes, never by its name."""

from __future__ import annotations

import codecs
import re
from dataclasses import field
from typing import TypeAlias

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.image_headers import ImageType, image_dimensions, image_type

# platform.claude.com/docs/en/build-with-claude/vision, "General limits" (read in November 2026).
MAX_IMAGE_SIDE_PX = 8000
MANY_IMAGES_THRESHOLD = 20
MAX_MANY_IMAGE_SIDE_PX = 2000
"""The limit of a side in a request with more than `MANY_IMAGES_THRESHOLD` images."""

_LINE_END = re.compile(r"\r\n|\n|\r")


@frozen_dataclass()
class TextFile:
    text: str

    def lines(self) -> list[str]:
        """The lines as editors number them; `str.splitlines` knows more ends."""
        rows = _LINE_END.split(self.text)
        return rows if rows[-1] else rows[:-1]


@frozen_dataclass()
class PdfFile:
    data: bytes


@frozen_dataclass()
class ImageFile:
    """`width` and `height` are in pixels, 0 where the header is damaged."""

    data: bytes
    media_type: ImageType
    width: int
    height: int


@frozen_dataclass()
class UnsupportedFile:
    """A file that Claude cannot be shown; `description` completes "it is …"."""

    description: str
    data: bytes = field(default=b"", repr=False)


FileContent: TypeAlias = TextFile | PdfFile | ImageFile | UnsupportedFile


def detect_content(data: bytes) -> FileContent:
    """The type and content of a file."""
    if not data:
        return UnsupportedFile("empty")
    if media_type := image_type(data):
        return ImageFile(data, media_type, *image_dimensions(data))
    if data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n\0")[:5] == b"%PDF-":
        return PdfFile(data)
    if name := _binary_description(data):
        return UnsupportedFile(name, data)
    text = decode_text(data)
    if text is None:
        return UnsupportedFile("binary data, or text in an encoding other than UTF-8, UTF-16 and Windows-1252", data)
    return TextFile(text) if text.strip() else UnsupportedFile("empty")


_BINARY_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\0", "xz data"),
    (b"(\xb5/\xfd", "Zstandard data"),
    (b"7z\xbc\xaf'\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x7fELF", "an ELF program or library"),
    (b"MZ\x90\0", "a Windows program"),
    (b"\xca\xfe\xba\xbe", "a Java class or a macOS program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"\xfe\xed\xfa\xcf", "a macOS program"),
    (b"\0asm", "WebAssembly"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (b"{\\rtf", "an RTF document"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"\0\0\1\0", "an icon"),
    (b"8BPS\0", "a Photoshop image"),
    (b"ID3", "MP3 audio"),
    (b"fLaC", "FLAC audio"),
    (b"OggS\0", "Ogg audio or video"),
    (b"\x1aE\xdf\xa3", "Matroska or WebM video"),
    (b"PAR1", "a Parquet file"),
    (b"DIRC\0\0\0", "a git index"),
    (b"PACK\0\0\0", "a git pack"),
    (b"wOFF\0", "a font"),
    (b"wOF2\0", "a font"),
)


def _binary_description(data: bytes) -> str:
    """The name of a well-known type that Claude does not take, else empty."""
    for magic, name in _BINARY_SIGNATURES:
        if data.startswith(magic):
            return name
    if data[4:8] == b"ftyp":
        return "a HEIC or AVIF image" if data[8:12] in {b"heic", b"heix", b"avif", b"mif1"} else "MP4 video or audio"
    if data.startswith(b"RIFF") and data[8:12] in {b"WAVE", b"AVI "}:
        return "WAV audio" if data[8:12] == b"WAVE" else "AVI video"
    if data.startswith(b"BM") and len(data) > 18 and int.from_bytes(data[2:6], "little") == len(data):
        return "a BMP image"
    if data[257:262] == b"ustar":
        return "a tar archive"
    return ""


_BYTE_ORDER_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark begins it
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_CONTROL_CHARACTER = re.compile("[\x00-\x07\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")
"""Control characters except those of text: white space, overstrikes, and escapes that colour logs."""
_NON_ASCII = re.compile("[^\x00-\x7f]")


def decode_text(data: bytes) -> str | None:
    """Bytes as text, None for binary data. Tries a byte-order mark, UTF-16 without one, UTF-8, then Windows-1252.

    A few broken bytes in UTF-8, as logs have them, become U+FFFD.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _text_or_none(_decode_strictly(data[len(mark) :], encoding))
    if b"\0" in data:
        return _text_or_none(_decode_strictly(data, _utf16_encoding(data))) if _utf16_encoding(data) else None
    text = _decode_strictly(data, "utf-8")
    if text is not None:
        return _text_or_none(text)
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    whole = sum(1 for _ in _NON_ASCII.finditer(text)) - broken
    if whole >= 10 * broken:
        return _text_or_none(text)
    return _decode_cp1252(data)


def _decode_strictly(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _utf16_encoding(data: bytes) -> str:
    """The encoding of UTF-16 without a mark, by the zeros in its high bytes; empty for other data."""
    head = data[: 1 << 12]
    pairs = len(head) // 2
    if len(data) % 2 or not pairs:
        return ""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if odd > 0.4 * pairs and even < 0.05 * pairs:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 * pairs and odd < 0.05 * pairs else ""


def _decode_cp1252(data: bytes) -> str | None:
    """Windows-1252 (Latin-1 included) where the text reads like a language: a few accented letters among many."""
    text = _decode_strictly(data, "cp1252")
    high = _NON_ASCII.findall(text or "")
    if text is None or len(high) > 0.3 * len(data) or _CONTROL_CHARACTER.search(text):
        return None
    letters = sum(1 for each in high if each.isalpha() or each in "€“”‘’„–—…«»°§©®£¿¡ºª·\u00a0")
    return text if letters >= 0.7 * len(high) else None


def _text_or_none(text: str | None) -> str | None:
    """The text, None where it holds a zero or many control characters."""
    if text is None or "\0" in text:
        return None
    return text if sum(1 for _ in _CONTROL_CHARACTER.finditer(text)) <= len(text) // 100 else None
