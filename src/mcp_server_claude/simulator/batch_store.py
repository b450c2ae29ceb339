"""The Message Batches API: creation, status, list, cancel, results and deletion, and the processing of the items.

Source: platform.claude.com/docs/en/build-with-claude/batch-processing and …/api/messages/batches, as documented by
November 2026. A batch belongs to the account (on the real API: the workspace) that created it.
"""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from email.utils import formatdate
from secrets import token_hex
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

from mcp_server_claude.simulator import json_responses, sse_format
from mcp_server_claude.simulator.api_errors import (
    ERROR_MESSAGES,
    ApiError,
    RequestRejectedError,
    complete_body,
    error_type,
    rejection,
)
from mcp_server_claude.simulator.batch_validation import batch_items, check_batch_params
from mcp_server_claude.simulator.list_pages import list_page
from mcp_server_claude.simulator.message_batch import SimulatedBatch, errored_result, succeeded_result
from mcp_server_claude.simulator.prompt_directives import InvalidDirectiveError
from mcp_server_claude.simulator.request_log import LoggedRequest
from mcp_server_claude.simulator.request_validation import requested_version
from mcp_server_claude.simulator.thinking_binding import account_name

if TYPE_CHECKING:
    from mcp_server_claude.simulator.http_connection import ClientConnection, HttpRequest
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.message_batch import SimulatedBatchItem
    from mcp_server_claude.simulator.message_planner import MessagePlanner

BATCHES_PATH = "/v1/messages/batches"
JSONL_HEADERS = {"content-type": "application/x-jsonl"}
BatchOperation = Literal["create", "retrieve", "list", "cancel", "results", "delete"]
HARMLESS_FAULTS = frozenset({None, "huge", "tiny", "gzip", "nostop", "json"})
"""Faults of streams that leave an item of a batch as it is; any other makes it `errored`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFault:
    """A failure of one request: an HTTP error, or (`status` None) a connection that is reset with the response."""

    operation: BatchOperation
    status: int | None


class BatchStore:
    """The batches of one API; `duration_s` is the time that one takes, None for as long as `process` is not called."""

    def __init__(self, planner: MessagePlanner, *, duration_s: float | None, clock_offset_s: float = 0.0) -> None:
        """The clock of the API is `clock_offset_s` ahead of this machine's, or behind it where that is negative."""
        self.item_requests: list[LoggedRequest] = []
        self._planner = planner
        self._duration_s = duration_s
        self._clock_offset_s = clock_offset_s
        self._batches: dict[str, SimulatedBatch] = {}
        self._deadlines: dict[str, float] = {}
        self._faults: deque[BatchFault] = deque()
        self._request_id_prefix = token_hex(5)

    def fail_requests(self, operation: BatchOperation, *, status: int | None, times: int) -> None:
        """Let the next `times` requests of one kind fail."""
        self._faults.extend(BatchFault(operation=operation, status=status) for _ in range(times))

    def process(self, limit: int | None = None) -> int:
        """Process up to `limit` items, oldest batch first, and end each batch that is through; the number processed."""
        processed = 0
        for batch in self._batches.values():
            if batch.status == "canceling":
                batch.end(unprocessed="canceled")
            if batch.status == "ended":
                continue
            for item in batch.items:
                if limit is not None and processed >= limit:
                    return processed
                if item.result is None:
                    item.result = self._process_item(batch, item)
                    processed += 1
            batch.end()
        return processed

    def expire(self, batch_id: str) -> None:
        """End a batch as its 24 hours do: what is not processed has expired."""
        batch = self._batches.get(batch_id)
        if batch is not None and batch.status != "ended":
            batch.end(unprocessed="expired")

    def archive(self, batch_id: str) -> None:
        """Make the results of a batch unavailable, as 29 days after its creation."""
        batch = self._batches[batch_id]
        self.expire(batch_id)
        batch.archived = batch.ended

    # ------------------------------------------------------------------ requests

    async def handle_request(
        self, request: HttpRequest, path: str, key: str, record: LoggedRequest, connection: ClientConnection
    ) -> None:
        """Answer one request of the Batches API; `path` is what stands after `/v1/messages/batches/`.

        Raises:
            RequestRejectedError: There is no such batch, or it is not in the state that the request needs.
        """
        requested_version(request.headers)
        batch_id, _, action = path.partition("/")
        operation = _operation(request.method, batch_id, action)
        fault = self._next_fault(operation)
        if fault is not None and fault.status is not None:
            kind = error_type(fault.status)
            raise RequestRejectedError(ApiError(status=fault.status, message=ERROR_MESSAGES.get(kind, "Not found")))
        self._end_due_batches()
        body = self._carry_out(operation, batch_id, request, key, record)
        if fault is not None:
            await _reset_in_response(operation, body, record, connection)
        elif operation == "results":
            json_responses.send_file(body, JSONL_HEADERS["content-type"], record, connection)
        else:
            date = formatdate(time.time() + self._clock_offset_s, usegmt=True)
            json_responses.send_json_bytes(body, record, connection, {"date": date})

    def _carry_out(
        self, operation: BatchOperation, batch_id: str, request: HttpRequest, key: str, record: LoggedRequest
    ) -> bytes:
        if operation == "create":
            return sse_format.json_bytes(self._create(request, key, record).to_json())
        if operation == "list":
            return sse_format.json_bytes(self._list(request, key))
        batch = self._find(batch_id, key)
        match operation:
            case "retrieve":
                pass
            case "cancel":
                _begin_cancel(batch)
            case "results":
                _require_results(batch)
                return batch.results_jsonl()
            case "delete":
                if batch.status != "ended":
                    raise rejection(f"Batch {batch_id} is still {batch.status}; cancel it before you delete it.")
                del self._batches[batch_id]
                return sse_format.json_bytes({"id": batch_id, "type": "message_batch_deleted"})
        return sse_format.json_bytes(batch.to_json())

    def _create(self, request: HttpRequest, key: str, record: LoggedRequest) -> SimulatedBatch:
        try:
            body: Json = json.loads(complete_body(request.body))
        except ValueError:
            raise rejection("The request body is not valid JSON") from None
        record.body = body
        if not isinstance(body, dict):
            raise rejection("Input should be a valid dictionary or object to extract fields from")
        batch = SimulatedBatch(
            id=f"msgbatch_01{token_hex(11)}",
            account=account_name(key),
            key=key,
            headers=request.headers,
            base_url=f"http://{request.headers.get('host', '')}",
            items=batch_items(body),
            clock_offset=timedelta(seconds=self._clock_offset_s),
        )
        self._batches[batch.id] = batch
        if self._duration_s is not None:
            self._deadlines[batch.id] = time.monotonic() + self._duration_s
        return batch

    def _list(self, request: HttpRequest, key: str) -> Object:
        mine = [batch for batch in reversed(self._batches.values()) if batch.account == account_name(key)]
        query = parse_qs(urlsplit(request.target).query)
        return list_page(mine, query, item_id=lambda batch: batch.id, item_json=lambda batch: batch.to_json())

    def _find(self, batch_id: str, key: str) -> SimulatedBatch:
        batch = self._batches.get(batch_id)
        if batch is None or batch.account != account_name(key):
            raise rejection(f"Message batch not found: {batch_id}", status=404)
        return batch

    def _next_fault(self, operation: BatchOperation) -> BatchFault | None:
        found = next((fault for fault in self._faults if fault.operation == operation), None)
        if found is not None:
            self._faults.remove(found)
        return found

    # ------------------------------------------------------------------ processing

    def _end_due_batches(self) -> None:
        """End the batches whose time has come, where batches take a time."""
        now = time.monotonic()
        for batch_id in [due for due, deadline in self._deadlines.items() if deadline <= now]:
            del self._deadlines[batch_id]
            batch = self._batches.get(batch_id)
            if batch is None or batch.status == "ended":
                continue
            if batch.status == "canceling":
                batch.end(unprocessed="canceled")
                continue
            for item in batch.items:
                item.result = item.result or self._process_item(batch, item)
            batch.end()

    def _process_item(self, batch: SimulatedBatch, item: SimulatedBatchItem) -> Object:
        """The result of one item, which `item_requests` lists like a request of its own."""
        sequence = len(self.item_requests) + 1
        record = LoggedRequest(
            sequence=sequence,
            request_id=f"req_011b{self._request_id_prefix}{sequence:010d}",
            method="POST",
            path=BATCHES_PATH,
            credential_header="",
            headers={},
            arrived_at=time.monotonic(),
            body=item.params,
            batch_id=batch.id,
            custom_id=item.custom_id,
        )
        self.item_requests.append(record)
        result = self._item_result(batch, item, record)
        record.record_end("complete" if record.status == 200 else f"batch:{result['type']}")
        return result

    def _item_result(self, batch: SimulatedBatch, item: SimulatedBatchItem, record: LoggedRequest) -> Object:
        try:
            check_batch_params(item.params)
            accepted = self._planner.accept(item.params, batch.key, batch.headers, record, is_batch=True)
        except RequestRejectedError as refusal:
            return errored_result(refusal.api_error, record.request_id)
        except InvalidDirectiveError as problem:
            return errored_result(ApiError(status=400, message=str(problem)), record.request_id)
        chosen = accepted.directive
        if chosen.batch in {"expired", "canceled"}:
            return {"type": chosen.batch}
        failure = accepted.failure
        if failure is None and (chosen.batch == "errored" or chosen.fault not in HARMLESS_FAULTS):
            failure = ApiError(status=500, message=ERROR_MESSAGES["api_error"])
        if failure is not None:
            return errored_result(failure, record.request_id)
        plan, used = self._planner.plan(accepted, record)
        record.status = 200
        record.record_message(plan, used)
        return succeeded_result(plan.message)


def _operation(method: str, batch_id: str, action: str) -> BatchOperation:
    match method, bool(batch_id), action:
        case "POST", False, "":
            return "create"
        case "GET", False, "":
            return "list"
        case "GET", True, "":
            return "retrieve"
        case "DELETE", True, "":
            return "delete"
        case "POST", True, "cancel":
            return "cancel"
        case "GET", True, "results":
            return "results"
        case _:
            raise rejection("Not Found", status=404)


def _begin_cancel(batch: SimulatedBatch) -> None:
    if batch.status == "ended":
        raise rejection(f"Batch {batch.id} has already ended and cannot be canceled.")
    if batch.status == "in_progress":
        batch.cancel()


def _require_results(batch: SimulatedBatch) -> None:
    if batch.status != "ended":
        raise rejection(f"Batch {batch.id} is still {batch.status}; its results are not available yet.")
    if batch.archived is not None:
        raise rejection(f"The results of batch {batch.id} are no longer available.", status=404)


async def _reset_in_response(
    operation: BatchOperation, body: bytes, record: LoggedRequest, connection: ClientConnection
) -> None:
    """Reset the connection: results in their middle, anything else before the head."""
    if operation == "results":
        record.status = 200
        headers = json_responses.response_headers(record) | JSONL_HEADERS | {"content-length": str(len(body))}
        connection.send_head(200, headers)
        connection.write(body[: len(body) // 2])
        await connection.flush()
    record.record_end("fault:drop")
    connection.reset()
