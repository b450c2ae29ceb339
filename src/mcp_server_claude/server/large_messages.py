"""Memory of large results: they are encoded piece by piece as they are sent, and released soon afterwards."""

from __future__ import annotations

import asyncio
import gc
from contextvars import Context
from json.encoder import encode_basestring as quote_json  # in C
from secrets import token_hex
from typing import TYPE_CHECKING, Any, cast

from mcp.types import JSONRPCResponse

from mcp_server_claude.heap_memory import trim_heap
from mcp_server_claude.lone_surrogates import replace_lone_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp.types import JSONRPCMessage

MIN_LARGE_TEXT_CHARS = 256 * 1024
"""Characters from which a text is encoded piece by piece. A smaller one costs little memory and is faster at once."""
PIECE_CHARS = 64 * 1024
MIN_LARGE_MESSAGE_BYTES = 1024 * 1024
RELEASE_DELAYS_S = (0.05, 0.5, 2.0)
"""Seconds after a result was written until its memory is released: its tasks have ended after the first, a busy store
has written it after the last."""


def encode_in_pieces(message: JSONRPCMessage) -> Iterator[bytes] | None:
    """The JSON of a response with large texts, in pieces that are encoded when they are asked for; None without such.

    The SDK's encoder makes the whole at once, at times three times the size of the text (benchmarks/, row "an answer of
    8 MB").
    """
    if not isinstance(message, JSONRPCResponse):
        return None
    texts: list[str] = []
    marker = f"text {token_hex(16)} "
    result = _with_markers(message.result, marker, texts)
    if not texts:
        return None
    rest = message.model_copy(update={"result": result}).model_dump_json(by_alias=True, exclude_unset=True)
    return _replace_markers(rest, marker, texts)


def _with_markers(value: Any, marker: str, texts: list[str]) -> Any:
    """A JSON value in which markers stand for large texts, which are appended to `texts`."""
    match value:
        case str() if len(value) >= MIN_LARGE_TEXT_CHARS:
            texts.append(value)
            return f"{marker}{len(texts) - 1} "
        case list():
            return [_with_markers(each, marker, texts) for each in cast("list[Any]", value)]
        case dict():
            fields = cast("dict[str, Any]", value)
            return {name: _with_markers(each, marker, texts) for name, each in fields.items()}
        case _:
            return value


def _replace_markers(encoded: str, marker: str, texts: list[str]) -> Iterator[bytes]:
    """The pieces of a JSON text, with the large texts in place of their markers."""
    head, *others = encoded.split(marker)
    yield head.encode()
    for other in others:
        number, rest = other.split(" ", 1)
        yield from _quoted_pieces(texts[int(number)])
        yield rest.encode()


def _quoted_pieces(text: str) -> Iterator[bytes]:
    """A text as it stands in a JSON string, without the quotation marks. Lone surrogates are replaced."""
    start = 0
    while start < len(text):
        end = start + PIECE_CHARS
        if "\ud800" <= text[end - 1 : end] <= "\udbff":
            end += 1  # its other half
        yield quote_json(replace_lone_surrogates(text[start:end]))[1:-1].encode()
        start = end


def release_after_sending(message_bytes: int) -> None:
    """Collect garbage soon, if a message of this size was large, and give free memory back to the system.

    A finished request leaves reference cycles with its result, and an idle server allocates too little for Python to
    look for them. It takes a few milliseconds.
    """
    if message_bytes >= MIN_LARGE_MESSAGE_BYTES:
        loop = asyncio.get_running_loop()
        for delay_s in RELEASE_DELAYS_S:
            loop.call_later(delay_s, _release_memory, context=Context())  # a copy of this one would hold the request


def _release_memory() -> None:
    gc.collect()
    trim_heap()
