"""The API's front: keys, routes, and for each request a record, a refusal or an answer."""

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
from mcp_server_claude.simulator.api_errors import Problem, RefusedError, refuse, whole
from mcp_server_claude.simulator.event_plan import write
from mcp_server_claude.simulator.file_store import Shelf, offers_code
from mcp_server_claude.simulator.json_body import text
from mcp_server_claude.simulator.prompt_directives import BadDirectiveError
from mcp_server_claude.simulator.request_log import KEPT_HEADERS, Record
from mcp_server_claude.simulator.request_validation import OLD_VERSION, VERSIONS
from mcp_server_claude.simulator.response_planning import cast
from mcp_server_claude.simulator.server_tools import Run, Search
from mcp_server_claude.simulator.stream_player import Performance, Tempo
from mcp_server_claude.simulator.token_counting import Input, PromptCache, count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.simulator.answer_text import Answer
    from mcp_server_claude.simulator.event_plan import Part
    from mcp_server_claude.simulator.http_connection import Connection, Request
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.model_catalog import Models
    from mcp_server_claude.simulator.prompt_directives import Directive
    from mcp_server_claude.simulator.random_faults import Chaos

PAGE, LARGEST_PAGE = 20, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast answers come: seconds to the first byte, then tokens a second (0: full speed)."""

    ttft_s: float = 0.05
    tokens_per_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How this API behaves where a prompt does not say otherwise."""

    pace: Pace
    key: str | None
    models: Models
    delta_chars: int
    single: bool
    defaults: Directive
    chaos: Chaos


class Api:
    """What lies behind the socket: it knows no sockets but the one it answers on."""

    def __init__(self, manner: Manner) -> None:
        self.records: list[Record] = []
        self.heard = asyncio.Event()
        self._hurried = asyncio.Event()
        self.shelf = Shelf()
        self._manner = manner
        self._cache = PromptCache()
        self._tries: Counter[str] = Counter()
        self._name = token_hex(5)
        self._sequence = 0

    def reset(self) -> None:
        """Forget every record, every warm prefix and every count of tries; files stay."""
        self.records.clear()
        self._cache.clear()
        self._tries.clear()

    def hurry(self) -> None:
        """Let the rest of the answers that are on their way come at once."""
        self._hurried.set()
        self._hurried = asyncio.Event()

    def answer_to(self, body: Object) -> str:
        """The text this API would say now to a request, with `max_tokens` and stops, without faults."""
        found = self._settled(answer_text.answer(body, self._manner.defaults), trying=False)
        model = model_catalog.find(text(body.get("model")), self._manner.models)
        if model is None:
            return found.text
        return cast(body, found, model, used=Input(fresh=0)).text

    async def handle(self, request: Request, line: Connection) -> None:
        """Answer one request."""
        path = unquote(urlsplit(request.target).path)
        if not path.startswith("/v1/"):
            self._aside(request, path, line)
            return
        record = self._recorded(request, path)
        try:
            await self._route(request, path, record, line)
        except RefusedError as refusal:
            json_responses.refuse(refusal.problem, record, line, {})
        except BadDirectiveError as problem:
            json_responses.refuse(Problem(status=400, message=str(problem)), record, line, {})
        except asyncio.CancelledError:
            if line.gone_at is not None:
                record.ended("disconnected", line.gone_at)
            raise

    def _aside(self, request: Request, path: str, line: Connection) -> None:
        """What is not the API's: the records, the reset, and the page that `fault=redirect` leads to."""
        match request.method, path:
            case "GET", "/_simulator/requests":
                told: list[Json] = [record.as_json() for record in self.records]
                line.respond(200, json_responses.JSON_TYPE, json.dumps(told).encode())
            case "POST", "/_simulator/reset":
                self.reset()
                line.respond(200, json_responses.JSON_TYPE, b"{}")
            case _, "/login":
                line.respond(200, {"content-type": "text/html; charset=utf-8"}, json_responses.HTML)
            case _:
                line.respond(
                    404,
                    json_responses.JSON_TYPE,
                    sse_format.dumps(Problem(status=404, message="Not Found").as_json("")),
                )

    def _recorded(self, request: Request, path: str) -> Record:
        self._sequence += 1
        bearer, plain = "authorization" in request.headers, "x-api-key" in request.headers
        record = Record(
            sequence=self._sequence,
            request_id=f"req_011{self._name}{self._sequence:011d}",
            method=request.method,
            path=path,
            key="both" if bearer and plain else "bearer" if bearer else "x-api-key" if plain else "none",
            headers={name: request.headers[name] for name in KEPT_HEADERS if name in request.headers},
            arrived_at=request.arrived_at,
        )
        self.records.append(record)
        self.heard.set()
        return record

    async def _route(self, request: Request, path: str, record: Record, line: Connection) -> None:
        key = self._admitted(request.headers)
        match request.method, path.rstrip("/"):
            case "POST", "/v1/messages":
                await self._messages(request, key, record, line)
            case "POST", "/v1/messages/count_tokens":
                body = _parsed(request, record)
                model = request_validation.model(body, self._manner.models)
                request_validation.check(body, model, _version(request.headers), counting=True)
                self.shelf.check(body, counting=True)
                json_responses.reply({"input_tokens": count(body)}, record, line)
            case "GET", "/v1/models":
                json_responses.reply(self._listed(request.target), record, line)
            case "GET", named if named.startswith("/v1/models/") and self._manner.models in {"full", "plain"}:
                found = model_catalog.find(named.removeprefix("/v1/models/"), self._manner.models)
                if found is None:
                    raise refuse(f"model: {named.removeprefix('/v1/models/')}", status=404)
                json_responses.reply(model_catalog.as_json(found), record, line)
            case _, files if files == "/v1/files" or files.startswith("/v1/files/"):
                self.shelf.answer(request, files.removeprefix("/v1/files").strip("/"), record, line)
            case _:
                raise refuse("Not Found", status=404)

    def _admitted(self, headers: Mapping[str, str]) -> str:
        """The key of a request, the `Authorization` header first.

        Raises:
            RefusedError: there is none, or it is not the right one.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not key:
            raise refuse("x-api-key header is required", status=401)
        if self._manner.key is not None and key != self._manner.key:
            bearer = scheme.lower() == "bearer"
            raise refuse("invalid bearer token" if bearer else "invalid x-api-key", status=401)
        return key

    def _listed(self, target: str) -> Object:
        match self._manner.models:
            case "full" | "plain":
                return _page(self._manner.models, parse_qs(urlsplit(target).query))
            case "empty":
                return {"data": [], "has_more": False, "first_id": None, "last_id": None}
            case "foreign":
                return model_catalog.foreign()
            case "missing":
                raise refuse("Not Found", status=404)

    # ------------------------------------------------------------------ messages

    async def _messages(self, request: Request, key: str, record: Record, line: Connection) -> None:
        body = _parsed(request, record)
        version = _version(request.headers)
        model = request_validation.model(body, self._manner.models)
        request_validation.check(body, model, version)
        self.shelf.check(body)
        found = self._settled(answer_text.answer(body, self._manner.defaults), trying=True)
        chosen = self._manner.chaos.over(found.directive)
        found = replace(found, directive=chosen)
        record.fault, record.resumed = chosen.fault, found.resumed
        if failure := random_faults.problem(chosen):
            await asyncio.sleep(chosen.ttft or 0)
            record.end = f"fault:{chosen.fault}"
            json_responses.refuse(failure, record, line, random_faults.headers(chosen))
            return
        if json_responses.strange(chosen, record, line):
            return
        used = self._cache.account(body, model, key)
        betas = request.headers.get("anthropic-beta", "")
        part = self._equipped(cast(body, found, model, used=used, betas=betas, chars=self._manner.delta_chars), body)
        script = write(part, record.request_id)
        record.web_searches = sum(isinstance(use, Search) for use in part.uses)
        tempo = self._tempo(chosen)
        if body.get("stream") is True and chosen.fault != "json":
            kind = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
            await Performance(line, record, script, chosen, tempo).play(json_responses.headers(record) | kind, used)
        else:
            await json_responses.whole(script, used, record, line, chosen, tempo)

    def _equipped(self, part: Part, body: Object) -> Part:
        """The part with what lies on the shelf: the files that its code makes, and the container that it runs in."""
        runs = any(isinstance(use, Run) for use in part.uses)
        uses = tuple(
            replace(use, made=() if use.pending else tuple(map(self.shelf.make, use.made)))
            if isinstance(use, Run)
            else use
            for use in part.uses
        )
        container = self.shelf.container(body.get("container")) if runs and offers_code(body) else None
        return replace(part, uses=uses, container=container)

    def _settled(self, found: Answer, *, trying: bool) -> Answer:
        """The answer, without its fault, or else its stop, once that has happened as often as asked."""
        chosen = found.directive
        stop = chosen.stop if chosen.stop != "pause_turn" else None
        if chosen.times is None or (chosen.fault is None and stop is None):
            return found
        if self._tries[found.conversation] >= chosen.times:
            lasting = chosen.stop if stop is None or chosen.fault is not None else None
            return replace(found, directive=replace(chosen, fault=None, stop=lasting))
        self._tries[found.conversation] += trying
        return found

    def _tempo(self, chosen: Directive) -> Tempo:
        pace = self._manner.pace
        return Tempo(
            ttft_s=pace.ttft_s if chosen.ttft is None else chosen.ttft,
            tokens_per_s=pace.tokens_per_s if chosen.pace is None else chosen.pace,
            ping_s=chosen.ping or 0.0,
            single=self._manner.single or chosen.fault == "tiny",
            hurried=self._hurried,
        )


def _parsed(request: Request, record: Record) -> Object:
    try:
        body: Json = json.loads(whole(request.body))
    except ValueError:
        raise refuse("The request body is not valid JSON") from None
    record.body = body
    if not isinstance(body, dict):
        raise refuse("Input should be a valid dictionary or object to extract fields from")
    return body


def _version(headers: Mapping[str, str]) -> str:
    version = headers.get("anthropic-version", "")
    if not version:
        raise refuse("anthropic-version: header is required")
    if version not in VERSIONS:
        raise refuse(f"anthropic-version: {version!r} is not a valid version; use {VERSIONS[-1]} or {OLD_VERSION}")
    return version


def _page(models: Models, query: Mapping[str, list[str]]) -> Object:
    limit = query.get("limit", [str(PAGE)])[0]
    if not limit.isdigit() or not 1 <= int(limit) <= LARGEST_PAGE:
        raise refuse("limit: Input should be between 1 and 1000")
    after, before = query.get("after_id", [""])[0], query.get("before_id", [""])[0]
    found = model_catalog.page(models, limit=int(limit), after_id=after, before_id=before)
    if found is None:
        raise refuse(f"{'after_id' if after else 'before_id'}: there is no such model")
    return found
