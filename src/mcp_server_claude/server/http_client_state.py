"""The HTTP request that a call came by, as far as the call must know of it: is its client still there, does it read?"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, cast

import anyio

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping


class Request(Protocol):
    """What the SDK hands on of an HTTP request: Starlette's, of which only the scope is of interest."""

    @property
    def scope(self) -> Mapping[str, object]:
        """The ASGI scope; in its `state` is what our own HTTP door found out."""
        ...


class Leg:
    """One HTTP request: over when its client has gone or it has been answered, free while no bytes wait to be read."""

    def __init__(self) -> None:
        self._over = False
        self._held: set[anyio.CancelScope] = set()
        self._writing = 0
        self._free = anyio.Event()

    @contextmanager
    def holding(self) -> Generator[anyio.CancelScope]:
        """A scope that is cancelled as soon as the request is over."""
        with anyio.CancelScope() as scope:
            self._held.add(scope)
            if self._over:
                scope.cancel()
            try:
                yield scope
            finally:
                self._held.discard(scope)

    def end(self) -> None:
        """The request is over: nobody waits for what is still done for it."""
        self._over = True
        for scope in self._held:
            scope.cancel()

    @contextmanager
    def writing(self) -> Generator[None]:
        """While the block runs, what was sent may wait for the client to read."""
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1
            if not self._writing:
                self._free.set()
                self._free = anyio.Event()

    async def free(self) -> None:
        """Wait until the client has taken what was sent so far."""
        while self._writing:
            await self._free.wait()


def leg_of(request: object) -> Leg | None:
    """The leg that a request of the SDK's came by; None over stdio."""
    return cast("Leg | None", _state(request).get("leg"))


def member_of(request: object) -> object:
    """Who sent an HTTP request, as our own door has found out. It is a bug to have let in a request of nobody's."""
    return _state(request)["member"]


def _state(request: object) -> Mapping[str, object]:
    return {} if request is None else cast("Mapping[str, object]", cast("Request", request).scope["state"])
