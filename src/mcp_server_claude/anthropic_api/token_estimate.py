"""How many tokens an input has, where nobody counts it: never too few, since budgets are kept with it."""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from typing import TYPE_CHECKING, cast

from mcp_server_claude import image_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN_PATTERN = re.compile(rb"[A-Za-z]{1,3}|[0-9]|[!-/:-@\[-`{-~]|[\x80-\xff]{1,2}")
"""What may be a token: three letters of a word, a digit, a sign, and two bytes of whatever is not ASCII."""
SAFETY_FACTOR = 1.25
"""For tokenizers that cut words shorter; those of the models since 4.7 do."""
OVERESTIMATE_FACTOR = 1.4
"""By how much that is too high for English prose, which has 3.5 characters a token."""
IMAGE_HEADER_CHARS = 1 << 18
"""Base64 characters that are enough to find the size of an image; in a JPEG it stands after the thumbnail."""


def estimate_input_tokens(fields: Mapping[str, object]) -> int:
    """The tokens of a request at most, as far as its text and the sizes of its images tell. Takes 50 ms a megabyte."""
    plain, image_tokens = _separate_images(fields)
    text = json.dumps(plain, ensure_ascii=False, default=str).encode(errors="replace")
    return math.ceil(SAFETY_FACTOR * sum(1 for _ in TOKEN_PATTERN.finditer(text))) + image_tokens


def _separate_images(value: object) -> tuple[object, int]:
    """The value without the data of its images, and the tokens of those."""
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        if fields.get("type") == "image":
            return {"type": "image"}, _image_tokens(fields)
        parts = {name: _separate_images(each) for name, each in fields.items()}
        return {name: part for name, (part, _) in parts.items()}, sum(tokens for _, tokens in parts.values())
    if isinstance(value, list | tuple):
        items = [_separate_images(each) for each in cast("list[object]", value)]
        return [item for item, _ in items], sum(tokens for _, tokens in items)
    return value, 0


def _image_tokens(block: Mapping[str, object]) -> int:
    source = block.get("source")
    data = cast("dict[str, object]", source).get("data") if isinstance(source, dict) else None
    try:
        head = b64decode(data[:IMAGE_HEADER_CHARS]) if isinstance(data, str) else b""
    except ValueError:
        head = b""
    return image_headers.image_tokens(*image_headers.image_dimensions(head))
