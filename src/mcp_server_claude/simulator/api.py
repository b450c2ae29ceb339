"""The API: authentication, routes, and for each request a log entry and an error or an answer."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from mcp_server_claude.simulator import json_responses, model_catalog, random_faults, sse_format
from mcp_server_claude.simulator.api_errors import ApiError, RequestRejectedError, complete_body, rejection
from mcp_server_claude.simulator.batch_store import BATCHES_PATH, BatchStore
from mcp_server_claude.simulator.catalog_model import model_json
from mcp_server_claude.simulator.file_store import FileStore
from mcp_server_claude.simulator.list_pages import list_page
from mcp_server_claude.simulator.message_planner import MessagePlanner
from mcp_server_claude.simulator.prompt_directives import InvalidDirectiveError
from mcp_server_claude.simulator.request_log import LOGGED_HEADERS, LoggedRequest
from mcp_server_claude.simulator.stream_player import StreamPlayer, StreamTiming

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.simulator.http_connection import ClientConnection, HttpRequest
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.message_planner import PlannerConfig
    from mcp_server_claude.simulator.model_catalog import ModelList
    from mcp_server_claude.simulator.prompt_directives import Directive


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The pace of answers: seconds to the first byte, then tokens a second (0: full speed)."""

    ttft_s: float = 0.05
    tokens_per_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """The behavior of the API where a prompt does not choose another."""

    pace: Pace
    key: str | None
    models: ModelList
    one_event_per_write: bool
    batch_duration_s: float | None
    batch_clock_offset_s: float
    max_count_delay_s: float
    planner: PlannerConfig


class SimulatedApi:
    """The API behind the socket: it routes, checks and answers requests, and logs them."""

    def __init__(self, config: ApiConfig) -> None:
        self.requests: list[LoggedRequest] = []
        self.request_arrived = asyncio.Event()
        self._delays_skipped = asyncio.Event()
        self.files = FileStore()
        self._config = config
        self._planner = MessagePlanner(config.planner, self.files)
        self.batches = BatchStore(
            self._planner, duration_s=config.batch_duration_s, clock_offset_s=config.batch_clock_offset_s
        )
        self._request_id_prefix = token_hex(5)
        self._sequence = 0
        self._count_delays = random.Random(0)

    def reset(self) -> None:
        """Forget every logged request, cached prefix and count of faults; files and batches stay."""
        self.requests.clear()
        self.batches.item_requests.clear()
        self._planner.reset()

    def skip_delays(self) -> None:
        """Let the rest of the answers that are on their way come at once."""
        self._delays_skipped.set()
        self._delays_skipped = asyncio.Event()

    def answer_to(self, body: Object) -> str:
        """The text this API would say now to a request, with `max_tokens` and stops, without faults."""
        return self._planner.answer_to(body)

    async def handle(self, request: HttpRequest, connection: ClientConnection) -> None:
        """Answer one request."""
        path = unquote(urlsplit(request.target).path)
        if not path.startswith("/v1/"):
            self._handle_control_request(request, path, connection)
            return
        record = self._record_request(request, path)
        try:
            await self._route(request, path, record, connection)
        except RequestRejectedError as refusal:
            json_responses.send_error(refusal.api_error, record, connection, {})
        except InvalidDirectiveError as problem:
            json_responses.send_error(ApiError(status=400, message=str(problem)), record, connection, {})
        except asyncio.CancelledError:
            if connection.disconnected_at is not None:
                record.record_end("disconnected", connection.disconnected_at)
            raise

    def change_url_content(self, url: str) -> None:
        """Let other bytes be behind a URL from now on."""
        self._planner.change_url_content(url)

    def _handle_control_request(self, request: HttpRequest, path: str, connection: ClientConnection) -> None:
        """Answer a control request: the log, the reset, or the page to which `fault=redirect` leads."""
        match request.method, path:
            case "GET", "/_simulator/requests":
                entries: list[Json] = [record.log_entry() for record in self.requests]
                connection.send_response(200, json_responses.JSON_HEADERS, json.dumps(entries).encode())
            case "GET", "/_simulator/batch_items":
                items: list[Json] = [record.log_entry() for record in self.batches.item_requests]
                connection.send_response(200, json_responses.JSON_HEADERS, json.dumps(items).encode())
            case "POST", "/_simulator/process_batches":
                processed: Object = {"processed": self.batches.process()}
                connection.send_response(200, json_responses.JSON_HEADERS, sse_format.json_bytes(processed))
            case "POST", "/_simulator/reset":
                self.reset()
                connection.send_response(200, json_responses.JSON_HEADERS, b"{}")
            case _, "/login":
                connection.send_response(200, {"content-type": "text/html; charset=utf-8"}, json_responses.LOGIN_PAGE)
            case _:
                connection.send_response(
                    404,
                    json_responses.JSON_HEADERS,
                    sse_format.json_bytes(ApiError(status=404, message="Not Found").response_body("")),
                )

    def _record_request(self, request: HttpRequest, path: str) -> LoggedRequest:
        self._sequence += 1
        bearer, plain = "authorization" in request.headers, "x-api-key" in request.headers
        record = LoggedRequest(
            sequence=self._sequence,
            request_id=f"req_011{self._request_id_prefix}{self._sequence:011d}",
            method=request.method,
            path=path,
            credential_header="both" if bearer and plain else "bearer" if bearer else "x-api-key" if plain else "none",
            headers={name: request.headers[name] for name in LOGGED_HEADERS if name in request.headers},
            arrived_at=request.arrived_at,
        )
        self.requests.append(record)
        self.request_arrived.set()
        return record

    async def _route(
        self, request: HttpRequest, path: str, record: LoggedRequest, connection: ClientConnection
    ) -> None:
        key = self._authenticate(request.headers)
        match request.method, path.rstrip("/"):
            case "POST", "/v1/messages":
                await self._create_message(request, key, record, connection)
            case "POST", "/v1/messages/count_tokens":
                count = self._planner.count_tokens(_parse_body(request, record), key, request.headers)
                await self._delay_count()
                json_responses.send_json({"input_tokens": count}, record, connection)
            case _, batches if batches == BATCHES_PATH or batches.startswith(f"{BATCHES_PATH}/"):
                rest = batches.removeprefix(BATCHES_PATH).strip("/")
                await self.batches.handle_request(request, rest, key, record, connection)
            case "GET", "/v1/models":
                json_responses.send_json(self._model_list(request.target), record, connection)
            case "GET", named if named.startswith("/v1/models/") and self._config.models in {"full", "plain"}:
                found = model_catalog.find_model(named.removeprefix("/v1/models/"), self._config.models)
                if found is None:
                    raise rejection(f"model: {named.removeprefix('/v1/models/')}", status=404)
                json_responses.send_json(model_json(found, self._config.planner.today), record, connection)
            case _, files if files == "/v1/files" or files.startswith("/v1/files/"):
                self.files.handle_request(request, files.removeprefix("/v1/files").strip("/"), record, connection)
            case _:
                raise rejection("Not Found", status=404)

    async def _delay_count(self) -> None:
        """Let a count of tokens take its time, each another one."""
        if self._config.max_count_delay_s:
            await asyncio.sleep(self._config.max_count_delay_s * self._count_delays.random())

    def _authenticate(self, headers: Mapping[str, str]) -> str:
        """The key of a request, the `Authorization` header first.

        Raises:
            RequestRejectedError: there is none, or it is not the right one.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not key:
            raise rejection("x-api-key header is required", status=401)
        if self._config.key is not None and key != self._config.key:
            bearer = scheme.lower() == "bearer"
            raise rejection("invalid bearer token" if bearer else "invalid x-api-key", status=401)
        return key

    def _model_list(self, target: str) -> Object:
        match self._config.models:
            case "full" | "plain":
                return list_page(
                    model_catalog.listed_models(self._config.models),
                    parse_qs(urlsplit(target).query),
                    item_id=lambda model: model.id,
                    item_json=lambda model: model_json(model, self._config.planner.today),
                )
            case "empty":
                return {"data": [], "has_more": False, "first_id": None, "last_id": None}
            case "foreign":
                return model_catalog.other_vendor_list()
            case "missing":
                raise rejection("Not Found", status=404)

    # ------------------------------------------------------------------ messages

    async def _create_message(
        self, request: HttpRequest, key: str, record: LoggedRequest, connection: ClientConnection
    ) -> None:
        accepted = self._planner.accept(_parse_body(request, record), key, request.headers, record)
        chosen = accepted.directive
        if failure := accepted.failure:
            await asyncio.sleep(chosen.ttft or 0)
            record.end = f"fault:{chosen.fault}"
            json_responses.send_error(failure, record, connection, random_faults.directed_headers(chosen))
            return
        if json_responses.send_wrong_content(chosen, record, connection):
            return
        script, used = self._planner.plan(accepted, record)
        tempo = self._timing(chosen)
        if accepted.body.get("stream") is True and chosen.fault != "json":
            kind = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
            await StreamPlayer(connection, record, script, chosen, tempo).play(
                json_responses.response_headers(record) | kind, used
            )
        else:
            await json_responses.send_message(script, used, record, connection, chosen, tempo)

    def _timing(self, directive: Directive) -> StreamTiming:
        pace = self._config.pace
        return StreamTiming(
            ttft_s=pace.ttft_s if directive.ttft is None else directive.ttft,
            tokens_per_s=pace.tokens_per_s if directive.pace is None else directive.pace,
            ping_s=directive.ping or 0.0,
            one_event_per_write=self._config.one_event_per_write or directive.fault == "tiny",
            delays_skipped=self._delays_skipped,
        )


def _parse_body(request: HttpRequest, record: LoggedRequest) -> Object:
    try:
        body: Json = json.loads(complete_body(request.body))
    except ValueError:
        raise rejection("The request body is not valid JSON") from None
    record.body = body
    if not isinstance(body, dict):
        raise rejection("Input should be a valid dictionary or object to extract fields from")
    return body
