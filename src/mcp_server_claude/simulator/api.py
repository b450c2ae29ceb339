"""The API: authentication, routes, and for each request a log entry and an error or an answer."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from mcp_server_claude.simulator import (
    answer_text,
    json_responses,
    model_catalog,
    random_faults,
    request_validation,
    sse_format,
)
from mcp_server_claude.simulator.api_errors import ApiError, RequestRejectedError, complete_body, rejection
from mcp_server_claude.simulator.event_plan import build_event_plan
from mcp_server_claude.simulator.file_store import FileStore, offers_code_execution
from mcp_server_claude.simulator.json_body import as_text
from mcp_server_claude.simulator.prompt_directives import InvalidDirectiveError
from mcp_server_claude.simulator.request_log import LOGGED_HEADERS, LoggedRequest
from mcp_server_claude.simulator.request_validation import FIRST_VERSION, VERSIONS
from mcp_server_claude.simulator.response_planning import plan_response
from mcp_server_claude.simulator.server_tools import CodeRun, WebSearch
from mcp_server_claude.simulator.stream_player import StreamPlayer, StreamTiming
from mcp_server_claude.simulator.thinking_binding import (
    BINDING_BETA,
    CheckedThinking,
    ThinkingContext,
    account_name,
    check_thinking,
)
from mcp_server_claude.simulator.token_counting import InputUsage, PromptCache, count_input_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.simulator.answer_text import ScriptedAnswer
    from mcp_server_claude.simulator.event_plan import ResponsePlan
    from mcp_server_claude.simulator.http_connection import ClientConnection, HttpRequest
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.model_catalog import CatalogModel, ModelList
    from mcp_server_claude.simulator.prompt_directives import Directive
    from mcp_server_claude.simulator.random_faults import RandomFaults

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 20, 1000


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
    delta_chars: int
    one_event_per_write: bool
    default_thinking: bool
    enforce_thinking_binding: bool
    new_account: bool
    inference_geo: str
    defaults: Directive
    random_faults: RandomFaults


class SimulatedApi:
    """The API behind the socket: it routes, checks and answers requests, and logs them."""

    def __init__(self, config: ApiConfig) -> None:
        self.requests: list[LoggedRequest] = []
        self.request_arrived = asyncio.Event()
        self._delays_skipped = asyncio.Event()
        self.files = FileStore()
        self._config = config
        self._cache = PromptCache()
        self._fault_counts: Counter[str] = Counter()
        self._request_id_prefix = token_hex(5)
        self._sequence = 0

    def reset(self) -> None:
        """Forget every logged request, cached prefix and count of faults; files stay."""
        self.requests.clear()
        self._cache.clear()
        self._fault_counts.clear()

    def skip_delays(self) -> None:
        """Let the rest of the answers that are on their way come at once."""
        self._delays_skipped.set()
        self._delays_skipped = asyncio.Event()

    def answer_to(self, body: Object) -> str:
        """The text this API would say now to a request, with `max_tokens` and stops, without faults."""
        found = self._limit_repeats(answer_text.plan_answer(body, self._config.defaults), count_attempt=False)
        model = model_catalog.find_model(as_text(body.get("model")), self._config.models)
        if model is None:
            return found.text
        model = self._with_default_thinking(model)
        return plan_response(body, found, model, input_usage=InputUsage(uncached=0)).text

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

    def _handle_control_request(self, request: HttpRequest, path: str, connection: ClientConnection) -> None:
        """Answer a control request: the log, the reset, or the page to which `fault=redirect` leads."""
        match request.method, path:
            case "GET", "/_simulator/requests":
                told: list[Json] = [record.log_entry() for record in self.requests]
                connection.send_response(200, json_responses.JSON_HEADERS, json.dumps(told).encode())
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
                body = _parse_body(request, record)
                model = request_validation.requested_model(body, self._config.models)
                request_validation.check_request(body, model, _api_version(request.headers), counting=True)
                self.files.check_references(body, counting=True)
                checked = self._check_thinking(body, model, key, request.headers)
                json_responses.send_json({"input_tokens": count_input_tokens(checked.body)}, record, connection)
            case "GET", "/v1/models":
                json_responses.send_json(self._model_list(request.target), record, connection)
            case "GET", named if named.startswith("/v1/models/") and self._config.models in {"full", "plain"}:
                found = model_catalog.find_model(named.removeprefix("/v1/models/"), self._config.models)
                if found is None:
                    raise rejection(f"model: {named.removeprefix('/v1/models/')}", status=404)
                json_responses.send_json(model_catalog.model_json(found), record, connection)
            case _, files if files == "/v1/files" or files.startswith("/v1/files/"):
                self.files.handle_request(request, files.removeprefix("/v1/files").strip("/"), record, connection)
            case _:
                raise rejection("Not Found", status=404)

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
                return _model_page(self._config.models, parse_qs(urlsplit(target).query))
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
        body = _parse_body(request, record)
        version = _api_version(request.headers)
        model = self._with_default_thinking(request_validation.requested_model(body, self._config.models))
        record.model = model.id
        request_validation.check_request(body, model, version)
        self.files.check_references(body)
        checked = self._check_thinking(body, model, key, request.headers)
        found = self._limit_repeats(answer_text.plan_answer(body, self._config.defaults), count_attempt=True)
        chosen = self._config.random_faults.apply_to(found.directive)
        found = replace(found, directive=chosen)
        record.fault, record.is_continuation = chosen.fault, found.resumed
        if failure := random_faults.directed_error(chosen):
            await asyncio.sleep(chosen.ttft or 0)
            record.end = f"fault:{chosen.fault}"
            json_responses.send_error(failure, record, connection, random_faults.directed_headers(chosen))
            return
        if json_responses.send_wrong_content(chosen, record, connection):
            return
        used = self._cache.charge(checked.body, model, key)
        betas = request.headers.get("anthropic-beta", "")
        part = self._with_files_and_container(
            plan_response(
                body,
                found,
                model,
                input_usage=used,
                betas=betas,
                delta_chars=self._config.delta_chars,
                inference_geo=self._config.inference_geo,
            ),
            body,
        )
        if BINDING_BETA in betas:
            part = replace(part, input_transformations=checked.transformations)
        record.inference_geo, record.refusal_category = part.inference_geo, part.refusal_category
        context = ThinkingContext(model=model, account=account_name(key), body=body, previous=checked.previous)
        script = build_event_plan(part, context, record.request_id)
        record.web_searches = sum(isinstance(use, WebSearch) for use in part.server_tool_uses)
        tempo = self._timing(chosen)
        if body.get("stream") is True and chosen.fault != "json":
            kind = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
            await StreamPlayer(connection, record, script, chosen, tempo).play(
                json_responses.response_headers(record) | kind, used
            )
        else:
            await json_responses.send_message(script, used, record, connection, chosen, tempo)

    def _with_default_thinking(self, model: CatalogModel) -> CatalogModel:
        """The model, which thinks without being asked only where the configuration keeps the documented default."""
        if self._config.default_thinking:
            return model
        return replace(model, thinks_by_default=model.always_thinks)

    def _check_thinking(
        self, body: Object, model: CatalogModel, key: str, headers: Mapping[str, str]
    ) -> CheckedThinking:
        """The request without the thinking that the API drops.

        Raises:
            RequestRejectedError: A thinking block is not valid here.
        """
        if not self._config.enforce_thinking_binding:
            return CheckedThinking(body=body)
        return check_thinking(
            body,
            model,
            account=account_name(key),
            betas=headers.get("anthropic-beta", ""),
            new_account=self._config.new_account,
        )

    def _with_files_and_container(self, part: ResponsePlan, body: Object) -> ResponsePlan:
        """The plan with the stored files that its code makes, and the container in which it runs."""
        runs = any(isinstance(use, CodeRun) for use in part.server_tool_uses)
        uses = tuple(
            replace(
                use,
                output_file_ids=() if use.is_pending else tuple(map(self.files.store_tool_output, use.output_file_ids)),
            )
            if isinstance(use, CodeRun)
            else use
            for use in part.server_tool_uses
        )
        container = self.files.open_container(body.get("container")) if runs and offers_code_execution(body) else None
        return replace(part, server_tool_uses=uses, container=container)

    def _limit_repeats(self, answer: ScriptedAnswer, *, count_attempt: bool) -> ScriptedAnswer:
        """The answer, without its fault, or else its stop, once that has happened as often as asked."""
        chosen = answer.directive
        stop = chosen.stop if chosen.stop != "pause_turn" else None
        if chosen.times is None or (chosen.fault is None and stop is None):
            return answer
        if self._fault_counts[answer.conversation] >= chosen.times:
            lasting = chosen.stop if stop is None or chosen.fault is not None else None
            return replace(answer, directive=replace(chosen, fault=None, stop=lasting))
        self._fault_counts[answer.conversation] += count_attempt
        return answer

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


def _api_version(headers: Mapping[str, str]) -> str:
    version = headers.get("anthropic-version", "")
    if not version:
        raise rejection("anthropic-version: header is required")
    if version not in VERSIONS:
        raise rejection(f"anthropic-version: {version!r} is not a valid version; use {VERSIONS[-1]} or {FIRST_VERSION}")
    return version


def _model_page(models: ModelList, query: Mapping[str, list[str]]) -> Object:
    limit = query.get("limit", [str(DEFAULT_PAGE_SIZE)])[0]
    if not limit.isdigit() or not 1 <= int(limit) <= MAX_PAGE_SIZE:
        raise rejection("limit: Input should be between 1 and 1000")
    after, before = query.get("after_id", [""])[0], query.get("before_id", [""])[0]
    found = model_catalog.model_list_page(models, limit=int(limit), after_id=after, before_id=before)
    if found is None:
        raise rejection(f"{'after_id' if after else 'before_id'}: there is no such model")
    return found
