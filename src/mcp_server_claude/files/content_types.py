"""What a file is, told by its bytes and never by its name."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

ImageType: TypeAlias = Literal["image/png", "image/jpeg", "image/gif", "image/webp"]

MAX_IMAGE_SIDE_PX = 8000
"""Pixels an image may be wide and high (platform.claude.com/docs, "Vision", general limits)."""
MAX_MANY_IMAGE_SIDE_PX = 2000
MANY_IMAGES_THRESHOLD = 20
"""With more images than that in a request, a side is at most `MAX_MANY_IMAGE_SIDE_PX`."""


@dataclass(frozen=True, slots=True)
class TextFile:
    text: str


@dataclass(frozen=True, slots=True)
class PdfFile:
    data: bytes


@dataclass(frozen=True, slots=True)
class ImageFile:
    """`width` and `height` are in pixels, 0 where the header is damaged."""

    data: bytes
    media_type: ImageType
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class UnsupportedFile:
    """What Claude cannot be shown; `name` completes "it is …"."""

    description: str
    data: bytes = field(default=b"", repr=False)


FileContent: TypeAlias = TextFile | PdfFile | ImageFile | UnsupportedFile


def detect_content(data: bytes) -> FileContent:
    """What these bytes are."""
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


def image_type(data: bytes) -> ImageType | None:
    """The media type of an image that Claude takes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def image_dimensions(data: bytes) -> tuple[int, int]:
    """Width and height from an image's header, in pixels; zeros where it does not say."""
    match image_type(data):
        case "image/png" if data[12:16] == b"IHDR" and len(data) >= 24:
            return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
        case "image/gif" if len(data) >= 10:
            return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
        case "image/jpeg":
            return _jpeg_dimensions(data)
        case "image/webp":
            return _webp_dimensions(data)
        case _:
            return 0, 0


def _jpeg_dimensions(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:  # a frame, not a table
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0, 0


def _webp_dimensions(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8X" if len(data) >= 30:
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case b"VP8L" if len(data) >= 25:
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if len(data) >= 30:
            wide, high = int.from_bytes(data[26:28], "little"), int.from_bytes(data[28:30], "little")
            return wide & 0x3FFF, high & 0x3FFF
        case _:
            return 0, 0


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
    """The name of a well-known type that Claude does not take, empty when it is none."""
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
"""Control characters but those that text has: white space, overstrikes, and what terminals colour logs with."""
_NON_ASCII = re.compile("[^\x00-\x7f]")


def decode_text(data: bytes) -> str | None:
    """Bytes as text, None when they are none: a byte-order mark, UTF-8, UTF-16 without a mark, then Windows-1252.

    UTF-8 with a few broken bytes, as in logs, is UTF-8 with U+FFFD in their place.
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
    """UTF-16 without a mark, by the zeros in the high bytes of what is mostly ASCII."""
    head = data[: 1 << 12]
    pairs = len(head) // 2
    if len(data) % 2 or not pairs:
        return ""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if odd > 0.4 * pairs and even < 0.05 * pairs:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 * pairs and odd < 0.05 * pairs else ""


def _decode_cp1252(data: bytes) -> str | None:
    """Windows-1252, which Latin-1 text is too, where it reads like a language: some accented letters among many."""
    text = _decode_strictly(data, "cp1252")
    high = _NON_ASCII.findall(text or "")
    if text is None or len(high) > 0.3 * len(data) or _CONTROL_CHARACTER.search(text):
        return None
    letters = sum(1 for each in high if each.isalpha() or each in "€“”‘’„–—…«»°§©®£¿¡ºª·\u00a0")
    return text if letters >= 0.7 * len(high) else None


def _text_or_none(text: str | None) -> str | None:
    """The text, where it holds no zeros and hardly a control character."""
    if text is None or "\0" in text:
        return None
    return text if sum(1 for _ in _CONTROL_CHARACTER.finditer(text)) <= len(text) // 100 else None
