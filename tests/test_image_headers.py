"""Type, size and token count of an image, read from the header of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.image_headers import image_dimensions, image_tokens, image_type
from support.file_tree import gif, jpeg, png, webp

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("make", [png, jpeg, gif, webp])
def test_the_size_of_an_image_is_read_from_its_header(make: Callable[[int, int], bytes]) -> None:
    data = make(640, 480)
    assert image_type(data) == f"image/{make.__name__}"
    assert image_dimensions(data) == (640, 480)
    assert image_dimensions(data[:6]) == (0, 0)


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        ((1, 1), 1),
        ((28, 28), 1),
        ((29, 28), 2),
        ((1000, 1000), 36 * 36),
        ((1092, 1092), 39 * 39),
        ((2576, 1456), 92 * 52),
        ((5152, 2912), 92 * 52),
        ((8000, 8000), 4_784),
        ((8000, 10), 92),
        ((0, 0), 4_784),
    ],
)
def test_the_tokens_of_an_image_follow_the_documented_formula(size: tuple[int, int], tokens: int) -> None:
    assert image_tokens(*size) == tokens
