"""Fonts whose characters are all boxes of one width, which test a layout without the fonts of the machine."""

# fontTools has no complete annotations.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Literal

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from support.quick_run import slow_beyond

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

UNITS_PER_EM = 1000
ASCENT, DESCENT = 950, -250
ADVANCES = {"narrow": 380, "wide": 700}
"""Width of a character in thousandths of the font size. The texts of the pages average 480 in Arial, 560 in Verdana."""
BoxFont = Literal["narrow", "wide"]
FONTS_AND_WIDTHS = slow_beyond(
    3,
    [
        ("wide", 320),
        ("narrow", 1280),
        ("wide", 768),
        ("narrow", 390),
        ("narrow", 768),
        ("narrow", 320),
        ("wide", 1280),
        ("wide", 390),
    ],
)
"""Parameters of a layout test: each font with the widths of a desktop, a tablet and two phones."""
MAX_CODE_POINT = 0x2FFF


async def use_box_font(page: Page, font: BoxFont) -> None:
    """Draw every text of a page in one box font. The page's context needs `bypass_csp`, which forbids fonts."""
    rule = (
        f"@font-face {{ font-family: Box; src: url(data:font/ttf;base64,{_encode_font(font)}) }}\n"
        ":root { --font: Box; --mono: Box }\n"
    )

    async def append_rule(route: Route) -> None:
        response = await route.fetch()
        await route.fulfill(response=response, body=await response.text() + rule)

    await page.route("**/css/app.css", append_rule)


async def wait_for_box_font(page: Page) -> None:
    """Wait until the font is loaded."""
    assert await page.evaluate("async () => (await document.fonts.load('16px Box')).length") == 1


def _encode_font(font: BoxFont) -> str:
    builder = FontBuilder(UNITS_PER_EM, isTTF=True)
    builder.setupGlyphOrder([".notdef", "box"])
    builder.setupCharacterMap(dict.fromkeys(range(32, MAX_CODE_POINT), "box"))
    advance = ADVANCES[font]
    pen = TTGlyphPen(None)
    pen.moveTo((60, 0))
    for point in ((advance - 60, 0), (advance - 60, 520), (60, 520)):
        pen.lineTo(point)
    pen.closePath()
    box = pen.glyph()
    builder.setupGlyf({".notdef": box, "box": box})
    builder.setupHorizontalMetrics({".notdef": (advance, 60), "box": (advance, 60)})
    builder.setupHorizontalHeader(ascent=ASCENT, descent=DESCENT)
    builder.setupNameTable({"familyName": "Box", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=ASCENT, sTypoDescender=DESCENT, usWinAscent=ASCENT, usWinDescent=-DESCENT)
    builder.setupPost()
    data = io.BytesIO()
    builder.save(data)
    return base64.b64encode(data.getvalue()).decode()
