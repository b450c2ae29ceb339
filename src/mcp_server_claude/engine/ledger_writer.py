"""The writer of the ledger: one entry for every upstream request, however it ends.

An entry is written before its request is sent, gets the exact input tokens when the answer begins, and is completed at
the end. A cancelled call does not wait for that: the write is posted, and the store finishes what is posted.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from mcp_server_claude import pricing
from mcp_server_claude.call_types import COMPLETE_STOP_REASONS
from mcp_server_claude.errors import ConfigurationError, TemporaryError
from mcp_server_claude.store import StoreError, budget_reservations, orphan_cleanup, process_locks, request_ledger
from mcp_server_claude.store.error_translation import PASSING_KINDS
from mcp_server_claude.store.operations import BACKLOG_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from mcp_server_claude.anthropic_api.message_stream import MessageStream
    from mcp_server_claude.call_types import Call, Usage
    from mcp_server_claude.engine.request_bill import RequestBill
    from mcp_server_claude.engine.spending_limit import ReservationRequest
    from mcp_server_claude.errors import CallError
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.request_ledger import EndStatus
    from mcp_server_claude.store.transaction import Statement


class LedgerWriter:
    """Writes the ledger entries of one process. `project` is that of calls which name none."""

    def __init__(self, store: Store, *, project: str = "") -> None:
        self.project = project
        self.store = store
        self.worker = store.locks.worker
        self._deferred: dict[str, DeferredClosings] = {}

    def defer_closings(self, call_id: str, job_id: str) -> DeferredClosings:
        """Write the closing of a call's last entry together with the outcome of its job item, until `commit`."""
        unregister = partial(self._deferred.pop, call_id, None)
        deferred = self._deferred[call_id] = DeferredClosings(self.store, job_id, unregister)
        return deferred

    def deferred_closings(self, call_id: str) -> DeferredClosings | None:
        """The deferred closings of a call that belongs to a job; None for any other call."""
        return self._deferred.get(call_id)

    async def open_entry(
        self,
        call: Call,
        *,
        attempt: int,
        model: str,
        base_url: str,
        reservation_request: ReservationRequest | None = None,
    ) -> OpenEntry | budget_reservations.InsufficientBudget:
        """Write the entry of a request before it is sent, and reserve its cost, unless the budget is insufficient.

        A ledger that cannot be written does not stop a request, unless there is a budget.

        Raises:
            CallError: There is a budget, and the ledger could not be written.
        """
        entry = self.new_entry(call, attempt=attempt, model=model, base_url=base_url)
        if (deferred := self._deferred.get(call.id)) is not None:
            entry = replace(entry, job_id=deferred.job_id)
            deferred.flush()  # the entry before this one was not the call's last
        granted: budget_reservations.Reservation | budget_reservations.InsufficientBudget = (
            budget_reservations.Reservation(reservation_request.max_micros if reservation_request else 0)
        )
        try:
            write = self.store.write_together if attempt == 1 else self.store.write
            granted = await write(_reserve_and_open, entry, reservation_request)
        except StoreError as error:  # the footer has `last_error`
            if reservation_request is not None and reservation_request.scopes:
                self._discard_entry(entry.id)  # the commit can have succeeded unnoticed
                raise _unwritten_ledger_error(error, attempt) from None
            if error.kind in BACKLOG_KINDS:  # it is written once the database can be
                self.store.write_nowait(_reserve_and_open, entry, reservation_request)
        except BaseException:  # cancelled while it was being written: it is written nevertheless
            self._discard_entry(entry.id)
            raise
        if isinstance(granted, budget_reservations.InsufficientBudget):
            return granted
        return OpenEntry(self, entry, reservation_request, granted.micros)

    def new_entry(self, call: Call, *, attempt: int, model: str, base_url: str) -> request_ledger.LedgerEntry:
        """The entry of a request that begins now, not yet written."""
        return request_ledger.LedgerEntry(
            id=f"r_{token_hex(8)}",
            call_id=call.id,
            worker=self.worker,
            started_at=time.time(),
            attempt=attempt,
            user=call.user,
            client=call.client,
            source=call.source,
            tool=call.tool,
            thread=call.thread or None,
            model=model,
            host=urlsplit(base_url).hostname or "",
            trace_id=call.trace_id,
            project=call.project or self.project,
            job_id=call.job_id or None,
        )

    def _discard_entry(self, entry_id: str) -> None:
        """Close an entry that no request belongs to, if it is there, and release its reservations."""
        result = request_ledger.EntryResult(end="cancelled", ended_at=time.time())
        self.store.write_nowait(request_ledger.close_entry, entry_id, result, 0)

    @property
    def last_error(self) -> str:
        """One sentence when the ledger cannot be relied on; it goes into every footer."""
        return self.store.last_error

    async def close_orphans(self) -> None:
        """Close the requests and calls that dead processes left open."""
        await self.store.write(orphan_cleanup.close_orphans, self.store.locks, time.time())


class DeferredClosings:
    """The closing of a job call's last ledger entry, held back so that it is written with the outcome of the item.

    So there is no moment at which an answer is paid but its item is still to do.
    """

    def __init__(self, store: Store, job_id: str, unregister: Callable[[], object]) -> None:
        self.job_id = job_id
        self._store = store
        self._unregister = unregister
        self._closings: list[Callable[[Transaction], object]] = []

    def add(self, closing: Callable[[Transaction], object]) -> None:
        """Hold a closing back."""
        self._closings.append(closing)

    def flush(self) -> None:
        """Write what is held back, without waiting."""
        if closings := self._take():
            self._store.write_nowait(_run_all, closings)

    async def commit(self, finish: Callable[[Transaction], bool]) -> bool:
        """Write what is held back and the outcome in one transaction, and defer nothing more.

        Returns what `finish` returns: False if another process has claimed the item since.

        Raises:
            StoreError: The transaction failed. Nothing of it was written, and it can be tried again.
        """
        finished = await self._store.write_together(_run_all_and_finish, tuple(self._closings), finish)
        self._closings = []
        self._unregister()
        return finished

    def abandon(self) -> None:
        """Write what is held back without an outcome, and defer nothing more. Does not wait."""
        self._unregister()
        self.flush()

    def _take(self) -> list[Callable[[Transaction], object]]:
        closings, self._closings = self._closings, []
        return closings


class OpenEntry:
    """One line of the ledger, open until `close` or `close_nowait`. `reserved_micros` are held for it."""

    def __init__(
        self,
        ledger: LedgerWriter,
        entry: request_ledger.LedgerEntry,
        reservation_request: ReservationRequest | None,
        reserved_micros: int,
    ) -> None:
        self.reserved_micros = reserved_micros
        self._ledger = ledger
        self._call_id = entry.call_id
        self._id = entry.id
        self._opened = request_ledger.OpenedEntry(
            entry=replace(entry, held_micros=reserved_micros),
            scopes=reservation_request.scopes if reservation_request is not None else (),
            day=reservation_request.day if reservation_request is not None else "",
        )
        self._started_at = time.monotonic()

    def record_start(self, stream: MessageStream, usage: Usage) -> None:
        """Record the exact input tokens once the answer has begun, so that they survive a killed process."""
        known: request_ledger.EntryProgress = {
            "model": usage.model,
            "input_tokens": usage.input_tokens,
            "cache_read_input_tokens": usage.cache_read_input_tokens,
            "cache_creation_input_tokens": usage.cache_creation_input_tokens,
        }
        if stream.request_id:
            known["request_id"] = stream.request_id
        # The first event counts a token of output, which has not come yet.
        without_output = replace(usage, output_tokens=0, thinking_tokens=0)
        cost = pricing.request_cost(
            usage.model, without_output, cache_creation_1h_input_tokens=stream.cache_creation_1h_input_tokens
        )
        if cost is not None and not stream.has_invalid_usage:
            known["cost_micros"] = usd_to_micros(cost)
        self._ledger.store.write_nowait(request_ledger.record_entry_progress, self._id, **known)

    async def close(self, stream: MessageStream, error: CallError | None, bill: RequestBill, spent: Decimal) -> None:
        """Complete the entry, settle the budgets with the amount `spent`, and wait for the commit.

        For a call of a job it is committed with the outcome of its item, see `DeferredClosings`.
        """
        closing = self._entry_result(stream, end_status(stream, error), error, bill)
        if deferred := self._ledger.deferred_closings(self._call_id):
            deferred.add(partial(_close_entry, self._opened, closing, usd_to_micros(spent)))
            return
        with suppress(StoreError):  # the footer has `last_error`
            await self._ledger.store.write_surely(
                request_ledger.close_entry, self._id, closing, usd_to_micros(spent), self._opened
            )

    def close_nowait(self, stream: MessageStream, bill: RequestBill, spent: Decimal) -> None:
        """Complete the entry of a cancelled request without waiting."""
        self._ledger.store.write_nowait(
            request_ledger.close_entry,
            self._id,
            self._entry_result(stream, "cancelled", None, bill),
            usd_to_micros(spent),
            self._opened,
        )

    def _entry_result(
        self, stream: MessageStream, end: EndStatus, error: CallError | None, bill: RequestBill
    ) -> request_ledger.EntryResult:
        first = stream.first_text_at
        return replace(
            entry_result(stream, end, error, bill),
            ttft_ms=None if first is None else round((first - self._started_at) * 1000, 1),
            duration_ms=round((time.monotonic() - self._started_at) * 1000, 1),
        )


def entry_result(
    stream: MessageStream, end: EndStatus, error: CallError | None, bill: RequestBill
) -> request_ledger.EntryResult:
    """The result of a request as its message and its bill tell it, without its times."""
    usage, cost = bill.usage, bill.cost
    return request_ledger.EntryResult(
        end=end,
        ended_at=time.time(),
        model=usage.model or None,
        status=error.status if error is not None else (200 if stream.has_started else None),
        failure=error.kind if error is not None else None,
        request_id=stream.request_id or (error.request_id if error is not None else None),
        stop_reason=usage.stop_reason,
        **usage.counts(),
        cost_micros=None if cost is None else usd_to_micros(cost),
        pricing_as_of=None if cost is None else pricing.price_list_version(),
        estimated=usage.estimated,
        inference_geo=usage.inference_geo,
        speed=usage.speed,
        service_tier=usage.service_tier,
    )


def _close_entry(
    opened: request_ledger.OpenedEntry, result: request_ledger.EntryResult, spent_micros: int, tx: Transaction
) -> bool:
    return request_ledger.close_entry(tx, opened.entry.id, result, spent_micros, opened)


def _run_all(tx: Transaction, operations: Sequence[Callable[[Transaction], object]]) -> None:
    for operation in operations:
        operation(tx)


def _run_all_and_finish(
    tx: Transaction, operations: Sequence[Callable[[Transaction], object]], finish: Callable[[Transaction], bool]
) -> bool:
    _run_all(tx, operations)
    return finish(tx)


def usd_to_micros(usd: Decimal) -> int:
    """US dollars as whole micro-dollars."""
    return round(usd * 1_000_000)


def _reserve_and_open(
    tx: Transaction, entry: request_ledger.LedgerEntry, reservation_request: ReservationRequest | None
) -> budget_reservations.Reservation | budget_reservations.InsufficientBudget:
    return reserve_and_open_entry(tx, entry, reservation_request, first=[process_locks.registration(entry.worker)])


def reserve_and_open_entry(
    tx: Transaction,
    entry: request_ledger.LedgerEntry,
    reservation_request: ReservationRequest | None,
    first: Sequence[Statement] = (),
) -> budget_reservations.Reservation | budget_reservations.InsufficientBudget:
    """Reserve the cost of a request and write its entry; nothing of it if the budget is insufficient.

    `first` are statements that make the entry's `worker` known, unless they are part of the transaction already.
    """
    granted = budget_reservations.Reservation(0)
    if reservation_request is not None:
        if entry.attempt == 1 and budget_reservations.reserve_in_full(
            tx,
            reservation_request.scopes,
            reservation_request.day,
            reservation_request.max_micros,
            entry.id,
            [*first, request_ledger.insertion(replace(entry, held_micros=reservation_request.max_micros))],
        ):
            return budget_reservations.Reservation(reservation_request.max_micros)
        got = budget_reservations.reserve_up_to(
            tx,
            reservation_request.scopes,
            reservation_request.day,
            reservation_request.min_micros,
            reservation_request.max_micros,
            entry.id,
        )
        if isinstance(got, budget_reservations.InsufficientBudget):
            return got
        granted = got
    tx.execute_all(first)
    request_ledger.open_entry(tx, replace(entry, held_micros=granted.micros))
    return granted


def end_status(stream: MessageStream, error: CallError | None) -> EndStatus:
    """The end of a request by its stop reason, or by what arrived before its error."""
    if stream.stop_reason in COMPLETE_STOP_REASONS:
        return "complete"
    return cast(
        "EndStatus", "incomplete" if stream.stop_reason is not None or (stream.text_chars and not error) else "failed"
    )


def _unwritten_ledger_error(error: StoreError, attempt: int) -> CallError:
    """The error of a request that has a budget and no ledger.

    A call that has begun waits for a database that is away, with its text and its cost so far. A new one is refused at
    once, and the store itself has waited for a lock as long as a wait can help.
    """
    message = f"A budget is set, and the ledger could not be written: {error}"
    if error.kind not in PASSING_KINDS:
        return ConfigurationError(message, kind="store")
    waits = attempt > 1 and error.kind == "unreachable"
    return TemporaryError(message, kind="store", should_retry=None if waits else False)
