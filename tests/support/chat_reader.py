"""Readers of `/chat`: ask, read up to a point, and resume from there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.http_server import ServerSentEvent, read_events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2


async def read_until(events: AsyncIterator[ServerSentEvent], chars: int) -> list[ServerSentEvent]:
    """The events up to the one with which so many characters are there."""
    so_far: list[ServerSentEvent] = []
    async for each in events:
        so_far.append(each)
        if each.offset >= chars:
            return so_far
    raise AssertionError("it ended first")


async def ask_chat(client: httpx2.AsyncClient, message: str, **fields: object) -> list[ServerSentEvent]:
    """Ask, and read the whole answer."""
    async with client.stream("POST", "/chat", json={"message": message, **fields}) as response:
        assert response.status_code == 200, await response.aread()
        return [each async for each in read_events(response)]


async def resume(client: httpx2.AsyncClient, event: ServerSentEvent) -> list[ServerSentEvent]:
    """The events after one that was read before, up to the end."""
    call = event.id.partition(":")[0]
    async with client.stream("GET", f"/chat/{call}", headers={"Last-Event-ID": event.id}) as response:
        assert response.status_code == 200, await response.aread()
        return [each async for each in read_events(response)]
