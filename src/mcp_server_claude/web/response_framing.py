"""The framing of a streamed response's body (RFC 9112, sections 6.3 and 7.1), without h11's work for each piece.

A piece of a body changes nothing in the state of a connection. h11 checks that with twelve calls, which take as long as
everything else that the server does to send an event of `/chat`. It still frames heads, ends, and bodies of a declared
length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"
CONTENT_LENGTH = b"\r\ncontent-length:"
STATUSES_WITHOUT_BODY = frozenset({204, 304})


class StreamingConnection(h11.Connection):
    """A server's connection, which frames the pieces of a body of unknown length itself."""

    _frame_piece: Callable[[bytes], bytes] | None = None

    def send(self, event: h11.Event) -> bytes | None:  # pyright: ignore[reportIncompatibleMethodOverride] - it has overloads
        """The bytes to send for an event.

        Raises:
            h11.LocalProtocolError: The event is not allowed now.
        """
        if type(event) is h11.Data:
            return self.frame_piece(event.data)
        output = super().send(event)
        is_head = type(event) is h11.Response and event.status_code not in STATUSES_WITHOUT_BODY
        self._frame_piece = _framing_of(output.lower()) if is_head and output else None
        return output

    def frame_piece(self, piece: bytes) -> bytes:
        """The bytes to send for a piece of the body.

        Raises:
            h11.LocalProtocolError: No body is allowed now, or it is longer than declared.
        """
        # Without data it may be the response to HEAD, and an empty chunk would end the body.
        if self._frame_piece and piece:
            return self._frame_piece(piece)
        return super().send(h11.Data(data=piece)) or b""


def _framing_of(head: bytes) -> Callable[[bytes], bytes] | None:
    """The framing of the pieces after a head as h11 has written it, in lower case; None for a body of known length."""
    if CONTENT_LENGTH in head:
        return None
    return _chunk if CHUNKED in head else bytes  # the body for HTTP/1.0 ends with the connection


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
