"""The body of a response: from aiohttp's buffer as long as nothing special comes, otherwise as httpx2 reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest

from mcp_server_claude.anthropic_api.response_body import READ_ARRIVED, ResponseBody

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio


class LostConnectionError(Exception):
    """As aiohttp raises it."""


async def rest_of_body(pieces: list[bytes], failure: Exception | None) -> AsyncGenerator[bytes]:
    """The body as httpx2 would read it now."""
    for piece in pieces:
        yield piece
    if failure:
        raise failure


def body_of(
    arrived: list[bytes | Exception],
    rest: list[bytes],
    failure: Exception | None = None,
    *,
    coding: str = "",
    is_observed: bool = False,
) -> ResponseBody:
    """A body of which this has arrived, and then the rest."""

    async def read_arrived() -> bytes:
        piece = arrived.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    response = httpx2.Response(200, headers={"content-encoding": coding} if coding else {})
    response.extensions[READ_ARRIVED] = read_arrived
    return ResponseBody(response, rest_of_body(rest, failure), is_observed=is_observed)


async def test_a_body_ends_where_httpx2_ends_it() -> None:
    body = body_of([b"one", b"two", b""], [])
    assert [piece async for piece in body] == [b"one", b"two"]
    assert body.bytes_received == 6


async def test_an_error_is_that_of_httpx2_after_the_bytes_before_it() -> None:
    body = body_of([b"one", LostConnectionError()], [b"last"], httpx2.ReadError("lost"))
    assert [await anext(body), await anext(body)] == [b"one", b"last"]
    with pytest.raises(httpx2.ReadError):
        await anext(body)


@pytest.mark.parametrize(("coding", "is_observed"), [("gzip", False), ("", True)])
async def test_what_is_decoded_or_observed_is_read_by_httpx2(coding: str, *, is_observed: bool) -> None:
    body = body_of([b"raw"], [b"decoded"], coding=coding, is_observed=is_observed)
    assert [piece async for piece in body] == [b"decoded"]
