"""Coalescing of reads: several deltas of a paced answer are read at once, as network cards coalesce interrupts.

A stream of twenty deltas a second would wake the event loop twenty times, although its text is sent to the client ten
times a second. Reading costs more than anything else that is done for a delta (benchmarks/, row "200 streams"). The
clock of the deliveries wakes the reader in the same tick as those who send its text, so no text is later for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.delivery_clock import DeliverySignal

if TYPE_CHECKING:
    import httpx2

MIN_FULL_READ_BYTES = 4096
"""Bytes of one read above which a stream is fast, or behind: its next read does not wait."""
END_CALLBACK = "on_body_end"
"""The extension of a response that registers a callback for the end of its body (`aiohttp_client`)."""


class ReadCoalescer:
    """Delays between the reads of one response, `interval_s` seconds each. Its end is read without delay.

    Where the transport does not report the end of a body, nothing is delayed.
    """

    def __init__(self, response: httpx2.Response, interval_s: float) -> None:
        self._interval_s = interval_s
        self._signal = DeliverySignal(is_source=True)
        on_body_end = response.extensions.get(END_CALLBACK)
        if on_body_end is None or not interval_s:
            self._signal.close()
        else:
            on_body_end(self._signal.close)

    async def rest_after(self, read_bytes: int) -> None:
        """Wait for the interval after a read of so many bytes."""
        if read_bytes < MIN_FULL_READ_BYTES and not self._signal.is_closed:
            await self._signal.rest_for(self._interval_s)
