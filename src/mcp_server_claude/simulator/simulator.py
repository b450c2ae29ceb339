"""The simulator as a service: open it, send requests to its URL, read its log."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from mcp_server_claude.simulator import prompt_directives
from mcp_server_claude.simulator.api import ApiConfig, Pace, SimulatedApi
from mcp_server_claude.simulator.billing import bill_requests
from mcp_server_claude.simulator.http_connection import ClientConnection
from mcp_server_claude.simulator.message_planner import PlannerConfig
from mcp_server_claude.simulator.model_catalog import TODAY
from mcp_server_claude.simulator.random_faults import RECOVERABLE_FAULTS, RandomFaults
from mcp_server_claude.simulator.rate_limits import RateLimits

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from mcp_server_claude.simulator.batch_store import BatchOperation
    from mcp_server_claude.simulator.billing import BilledRequest
    from mcp_server_claude.simulator.http_connection import HttpRequest
    from mcp_server_claude.simulator.json_body import Object
    from mcp_server_claude.simulator.model_catalog import ModelList
    from mcp_server_claude.simulator.prompt_directives import FaultName
    from mcp_server_claude.simulator.request_log import LoggedRequest


class Simulator:
    """An offline Messages API on a loopback socket, while its `async with` lasts.

    Args:
        host: the address to listen on.
        port: the port to listen on; 0 takes a free one.
        pace: how fast answers come.
        key: the only key it takes; None takes any key (but never none).
        models: what `/v1/models` looks like; behind any but `full`, every model name is served.
        today: the day (`YYYY-MM-DD`) by which models are deprecated or retired.
        rate_limits: the limits of each class of models, in headers; a 429 where they are enforced.
        delta_chars: characters in a delta; 0 for varying, natural sizes.
        one_event_per_write: at full speed too, every event is a write of its own.
        default_thinking: models think by themselves where the documentation says so; else only when they are asked,
            or when they cannot be kept from it.
        enforce_thinking_binding: signatures of thinking that comes back are checked against the conversation, the
            model and the account.
        new_account: the account was made since 2026-08-31, so that thinking with a changed prefix is an error.
        inference_geo: the place of inference that `usage.inference_geo` names where a request asks for none; `"us"`
            is a workspace whose default is the United States.
        batch_duration_s: seconds until a batch ends; with 0 the request after the one that created it finds it ended,
            and with None it is in progress until `process_batches()`.
        batch_clock_offset_s: seconds that the clock of the Batches API is ahead of this machine's.
        max_count_delay_s: the longest time that a count of tokens takes, in seconds; each takes another share of it.
        defaults: a directive's keys and values where a prompt does not say otherwise, e.g. `"think=0 tokens=50"`.
        fault_rate: the share of message requests, from 0 to 1, that meet a fault by chance.
        faults: the faults that chance chooses from.
        seed: of that chance.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        pace: Pace = Pace(),  # noqa: B008 - a frozen value
        key: str | None = None,
        models: ModelList = "full",
        today: str = TODAY,
        rate_limits: RateLimits = RateLimits(),  # noqa: B008 - a frozen value
        delta_chars: int = 0,
        one_event_per_write: bool = False,
        default_thinking: bool = True,
        enforce_thinking_binding: bool = True,
        new_account: bool = True,
        inference_geo: str = "global",
        batch_duration_s: float | None = 0.0,
        batch_clock_offset_s: float = 0.0,
        max_count_delay_s: float = 0.0,
        defaults: str = "",
        fault_rate: float = 0.0,
        faults: tuple[FaultName, ...] = RECOVERABLE_FAULTS,
        seed: int = 0,
    ) -> None:
        chosen, _ = prompt_directives.parse_directives(f"[[sim: {defaults}]]")
        self._host = host
        self._port = port
        self._open_connections: set[ClientConnection] = set()
        self._internal_errors: list[Exception] = []
        self._server: asyncio.Server | None = None
        self._api = SimulatedApi(
            ApiConfig(
                pace=pace,
                key=key,
                models=models,
                one_event_per_write=one_event_per_write,
                batch_duration_s=batch_duration_s,
                batch_clock_offset_s=batch_clock_offset_s,
                max_count_delay_s=max_count_delay_s,
                planner=PlannerConfig(
                    models=models,
                    today=today,
                    rate_limits=rate_limits,
                    delta_chars=delta_chars,
                    default_thinking=default_thinking,
                    enforce_thinking_binding=enforce_thinking_binding,
                    new_account=new_account,
                    inference_geo=inference_geo,
                    defaults=chosen,
                    random_faults=RandomFaults(fault_rate, seed, faults),
                ),
            )
        )

    @property
    def url(self) -> str:
        """The URL on which it listens, e.g. `http://127.0.0.1:43210`."""
        return f"http://{self._host}:{self._port}"

    @property
    def requests(self) -> list[LoggedRequest]:
        """Every `/v1/*` request so far, in order of arrival."""
        return self._api.requests

    @property
    def batch_items(self) -> list[LoggedRequest]:
        """Every processed item of a batch so far, in order of processing: a request with `batch_id` and `custom_id`."""
        return self._api.batches.item_requests

    def bill(self) -> list[BilledRequest]:
        """The price of every answered message request so far, then of every batch item, by the documented rules."""
        return bill_requests([*self.requests, *self.batch_items])

    def process_batches(self, limit: int | None = None) -> int:
        """Process up to `limit` items of the batches in progress (None: all), the oldest first; the number processed.

        A batch whose items are all processed ends; one that is being canceled ends at once, its other items canceled.
        """
        return self._api.batches.process(limit)

    def fail_batch_requests(self, operation: BatchOperation, *, status: int | None = None, times: int = 1) -> None:
        """Let the next `times` requests of one kind to the Batches API fail.

        Args:
            operation: The kind of request.
            status: The HTTP status of the error; None carries the request out and resets the connection before the
                response has arrived, in the middle of it for `results`.
            times: The number of requests.
        """
        self._api.batches.fail_requests(operation, status=status, times=times)

    def answer_to(self, body: Object) -> str:
        """The whole text it would say now to this request body: cut by `max_tokens` and stops, free of faults."""
        return self._api.answer_to(body)

    async def wait_for_requests(self, count: int) -> None:
        """Wait until `count` requests have arrived since the start or the last reset."""
        while len(self.requests) < count:
            self._api.request_arrived.clear()
            await self._api.request_arrived.wait()

    async def wait_until_idle(self) -> None:
        """Wait until no response is on its way."""
        while tasks := [line.request_task for line in self._open_connections if line.request_task is not None]:
            await asyncio.wait(tasks)

    def skip_delays(self) -> None:
        """Let the rest of the answers that are on their way come at once, whatever their pace."""
        self._api.skip_delays()

    def expire(self, resource_id: str) -> None:
        """Let a file, a container or a batch, by its id, expire now: what a batch has not processed is `expired`."""
        self._api.files.expire(resource_id)
        self._api.batches.expire(resource_id)

    def change_url(self, url: str) -> None:
        """Let other bytes be behind a URL from now on: thinking that followed it was produced for another prefix."""
        self._api.change_url_content(url)

    def archive_batch(self, batch_id: str) -> None:
        """Let the results of a batch become unavailable, as they do 29 days after its creation."""
        self._api.batches.archive(batch_id)

    def reset(self) -> None:
        """Forget the requests, the warm prompt cache and how often faults have struck."""
        self._api.reset()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ClientConnection(self._handle, self._open_connections), self._host, self._port, backlog=1024
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        leaving = list(self._open_connections)
        tasks = [line.request_task for line in leaving if line.request_task is not None]
        for task in tasks:
            task.cancel()
        for line in leaving:
            line.abort()
        await asyncio.gather(*tasks, *(line.closed for line in leaving), return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
        if self._internal_errors and problem is None:
            raise self._internal_errors[0]

    async def _handle(self, request: HttpRequest, connection: ClientConnection) -> None:
        try:
            await self._api.handle(request, connection)
        except Exception as crash:  # noqa: BLE001 - a bug of ours: told to whoever opened the simulator
            self._internal_errors.append(crash)
            connection.abort()


async def run_until_signal(simulator: Simulator, *, announce: Callable[[str], None] | None = None) -> None:
    """Run a simulator until SIGINT or SIGTERM; `announce` is called with its URL once it listens."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # event loops on Windows have none; there Ctrl-C is a KeyboardInterrupt
            loop.add_signal_handler(number, stop.set)
    async with simulator:
        if announce is not None:
            announce(simulator.url)
        await stop.wait()
