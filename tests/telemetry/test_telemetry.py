"""Telemetry as a collector sees it: a real server process, OpenTelemetry's usual variables, OTLP over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import IO, TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from mcp_server_claude.telemetry import exporter_settings
from support.mcp_session import FAKE_KEY, failure_meta, ledger_rows, server_environment, usage_meta
from support.server_command import server_command
from support.stdio_process import stdio_process, tool_call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

RECEIVE_TIMEOUT_S = 60
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
SECRET = "the-cat-is-called-Brunhilde"


@dataclass(frozen=True)
class Seen:
    """A span as the collector got it."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool
    events: list[str]
    links: list[tuple[str, str]]


@dataclass
class Collector:
    """What arrived at an OTLP endpoint. `status` is what it answers."""

    url: str = ""
    status: int = 200
    spans: list[Seen] = field(default_factory=list[Seen])
    points: dict[str, list[tuple[dict[str, Any], Any]]] = field(default_factory=lambda: defaultdict(list))
    resources: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    bodies: list[bytes] = field(default_factory=list[bytes])
    received_more: Condition = field(default_factory=Condition)

    def take(self, path: str, body: bytes) -> None:
        with self.received_more:
            self.bodies.append(body)
            if path == "/v1/traces":
                self._traces(ExportTraceServiceRequest.FromString(body))
            elif path == "/v1/metrics":
                self._metrics(ExportMetricsServiceRequest.FromString(body))
            self.received_more.notify_all()

    async def until(self, enough: Callable[[], object]) -> None:
        def wait() -> bool:
            with self.received_more:
                return bool(self.received_more.wait_for(enough, RECEIVE_TIMEOUT_S))

        assert await anyio.to_thread.run_sync(wait), [span.name for span in self.spans]

    def spans_named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name.startswith(name)]

    def _traces(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.resources.append(values(resource.resource.attributes))
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Seen(
                            span.name,
                            span.kind,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            values(span.attributes),
                            span.status.code == span.status.STATUS_CODE_ERROR,
                            [event.name for event in span.events],
                            [(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
                        )
                    )

    def _metrics(self, request: ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in [*metric.histogram.data_points, *metric.sum.data_points]:
                        self.points[metric.name].append((values(point.attributes), point))


def values(attributes: Any) -> dict[str, Any]:
    """The attributes of a protobuf message as Python values."""
    found: dict[str, Any] = {}
    for each in attributes:
        kind = each.value.WhichOneof("value")
        value = getattr(each.value, kind)
        found[each.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


@asynccontextmanager
async def collecting(status: int = 200) -> AsyncGenerator[Collector]:
    collector = Collector(status=status)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield collector
    finally:
        await anyio.to_thread.run_sync(server.shutdown)
        thread.join()
        server.server_close()


@asynccontextmanager
async def client_of_server(data_dir: Path, otel: Mapping[str, str], **fields: object) -> AsyncGenerator[Client]:
    """A client at a server process that has these `OTEL_*` variables."""
    env = server_environment(api_key=FAKE_KEY, data_dir=data_dir, **fields) | dict(otel)
    command, *arguments = server_command()
    parameters = StdioServerParameters(command=command, args=arguments, env=env)
    with (data_dir.parent / "stderr").open("w") as errors:
        async with Client(stdio_client(parameters, errlog=errors)) as client:
            yield client


async def ask(client: Client, prompt: str, **arguments: object) -> Any:
    return await client.call_tool("claude_ask", {"prompt": prompt, **arguments}, meta={"traceparent": TRACEPARENT})


async def test_the_trace_of_a_call_holds_three_spans_in_one_tree_with_usage_and_cost(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with collecting() as collector:
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        async with client_of_server(tmp_path / "data", otel, base_url=upstream.url) as client:
            result = await ask(client, f"Remember: {SECRET}.")
            await collector.until(lambda: collector.spans_named("tools/call"))
    usage = usage_meta(result)
    [mcp], [ours], [sdk] = (collector.spans_named(name) for name in ("tools/call", "chat", "anthropic.messages.create"))
    assert {span.trace for span in (mcp, ours, sdk)} == {TRACE}
    assert (mcp.parent, ours.parent, sdk.parent) == (CALLER, mcp.id, ours.id)
    assert usage["trace_id"] == TRACE
    assert ours.name == f"chat {usage['model']}"
    assert {span.attributes["gen_ai.conversation.id"] for span in (mcp, ours, sdk)} == {usage["thread"]}
    assert ours.attributes["gen_ai.usage.output_tokens"] == usage["output_tokens"]
    assert sdk.attributes["gen_ai.usage.output_tokens"] == usage["output_tokens"]
    assert ours.attributes["gen_ai.usage.input_tokens"] == sdk.attributes["gen_ai.usage.input_tokens"]
    cache_names = {name for name in {*ours.attributes, *sdk.attributes} if name.startswith("gen_ai.usage.cache")}
    assert cache_names == {"gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_write.input_tokens"}
    assert all(ours.attributes[name] == sdk.attributes[name] for name in cache_names)
    assert ours.attributes["mcp_server_claude.cost_usd"] == usage["cost_usd"]
    assert ours.attributes["gen_ai.response.finish_reasons"] == ["end_turn"]
    assert not any(span.failed for span in (mcp, ours, sdk))
    assert {resource["service.name"] for resource in collector.resources} == {"mcp-server-claude"}
    assert [line["trace_id"] for line in ledger_rows(tmp_path / "data")] == [TRACE]


async def test_the_span_of_a_job_is_linked_to_the_spans_of_its_calls(upstream: Simulator, tmp_path: Path) -> None:
    async with collecting() as collector:
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        async with client_of_server(
            tmp_path / "data", otel, base_url=upstream.url, project_dir=str(tmp_path)
        ) as client:
            arguments = {"prompt": "Name {item}. [[sim: tokens=6]]", "items": ["tea", "milk", "rice"]}
            await client.call_tool("claude_map", arguments)
        await collector.until(lambda: collector.spans_named("job claude_map"))
    (job,), calls = collector.spans_named("job claude_map"), collector.spans_named("chat")
    assert len(calls) == 3
    assert sorted(job.links) == sorted((span.trace, span.id) for span in calls)
    assert {span.attributes["mcp_server_claude.job_id"] for span in (job, *calls)} == {
        job.attributes["mcp_server_claude.job_id"]
    }
    assert len({span.trace for span in (job, *calls)}) == 4


async def test_telemetry_holds_no_text_of_question_or_answer_and_no_name(upstream: Simulator, tmp_path: Path) -> None:
    async with collecting() as collector:
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_METRIC_EXPORT_INTERVAL": "200"}
        async with client_of_server(tmp_path / "data", otel, base_url=upstream.url) as client:
            result = await ask(client, f"[[sim: text={SECRET}]] {SECRET}", system=SECRET)
            await ask(client, "Hello?", thread=f"t_{SECRET}")
            await collector.until(lambda: len(collector.spans_named("tools/call")) == 2 and collector.points)
    assert not result.is_error
    everything = b"".join(collector.bodies)
    assert SECRET.encode() not in everything
    assert FAKE_KEY.encode() not in everything
    assert b"user.id" not in everything


@pytest.mark.slow
async def test_content_is_traced_where_the_operator_enables_it(upstream: Simulator, tmp_path: Path) -> None:
    async with collecting() as collector:
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        fields = {"trace_content": "true", "telemetry_users": "true"}
        async with client_of_server(tmp_path / "data", otel, base_url=upstream.url, **fields) as client:
            result = await ask(client, f"Remember: {SECRET}.")
            await collector.until(lambda: collector.spans_named("tools/call"))
    [ours], [sdk] = collector.spans_named("chat"), collector.spans_named("anthropic.messages.create")
    assert SECRET in sdk.attributes["gen_ai.input.messages"]
    [message] = json.loads(ours.attributes["gen_ai.output.messages"])
    assert message["parts"][0]["content"] == result.content[0].text
    assert ours.attributes["user.id"] == "local"


@pytest.mark.slow
async def test_each_request_of_a_call_is_a_span_with_its_waits(upstream: Simulator, tmp_path: Path) -> None:
    async with collecting() as collector:
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        async with client_of_server(tmp_path / "data", otel, base_url=upstream.url) as client:
            result = await ask(client, "[[sim: status=529 times=1]] Hello.")
            await collector.until(lambda: collector.spans_named("tools/call"))
    [ours], requests = collector.spans_named("chat"), collector.spans_named("anthropic.messages.create")
    assert len(requests) == usage_meta(result)["attempts"] == 2
    assert [span.failed for span in requests] == [True, False]
    assert {span.parent for span in requests} == {ours.id}
    assert ours.events == ["waiting"]
    assert ours.attributes["mcp_server_claude.retries"] == 1


async def test_the_span_of_a_failed_call_has_the_reason_and_no_text(upstream: Simulator, tmp_path: Path) -> None:
    async with collecting() as collector:
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        async with client_of_server(tmp_path / "data", otel, base_url=upstream.url) as client:
            result = await ask(client, f"[[sim: status=400]] {SECRET}")
            await collector.until(lambda: collector.spans_named("tools/call"))
    [ours] = collector.spans_named("chat")
    assert ours.failed
    assert ours.attributes["error.type"] == failure_meta(result)["kind"]
    assert SECRET.encode() not in b"".join(collector.bodies)


@pytest.mark.slow
async def test_the_trace_is_propagated_to_the_api_only_where_the_operator_enables_it(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with collecting() as collector:
        for otel in ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}):
            async with client_of_server(tmp_path / "data", otel, base_url=upstream.url) as client:
                await ask(client, "Hello.")
        assert not [request for request in upstream.requests if "traceparent" in request.headers]
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        async with client_of_server(
            tmp_path / "data", otel, base_url=upstream.url, forward_traceparent="true"
        ) as client:
            await ask(client, "Hello.")
        await collector.until(lambda: len(collector.spans_named("anthropic.messages.create")) == 2)
    traceparents = [request.headers["traceparent"] for request in upstream.requests if "traceparent" in request.headers]
    assert f"00-{TRACE}-{collector.spans_named('anthropic.messages.create')[-1].id}-01" in traceparents


async def test_tokens_time_and_cost_are_measured_by_their_conventional_names(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with collecting() as collector:
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_METRIC_EXPORT_INTERVAL": "200"}
        async with client_of_server(tmp_path / "data", otel, base_url=upstream.url) as client:
            usage = usage_meta(await ask(client, "Hello."))
            await collector.until(lambda: collector.points.get("mcp_server_claude.cost"))
    tokens = {labels["gen_ai.token.type"]: point.sum for labels, point in collector.points["gen_ai.client.token.usage"]}
    assert tokens == {"input": usage["input_tokens"], "output": usage["output_tokens"]}
    labels, cost = collector.points["mcp_server_claude.cost"][0]
    assert cost.as_double == usage["cost_usd"]
    assert labels["gen_ai.request.model"] == labels["gen_ai.response.model"] == usage["model"]
    assert collector.points["gen_ai.client.operation.duration"][0][1].sum == usage["duration_s"]
    assert collector.points["gen_ai.client.operation.time_to_first_chunk"][0][1].sum == usage["ttft_s"]


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://127.0.0.1:9/\u0000", "nonsense"])
async def test_an_unreachable_collector_costs_nothing_but_its_traces(
    upstream: Simulator, tmp_path: Path, endpoint: str
) -> None:
    otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint.replace("\u0000", "%00")}
    async with client_of_server(tmp_path / "data", otel, base_url=upstream.url) as client:
        result = await ask(client, "Hello.")
    assert usage_meta(result)["complete"]


@pytest.mark.slow
async def test_a_collector_that_never_answers_does_not_delay_the_shutdown(upstream: Simulator, tmp_path: Path) -> None:
    """The process ends by itself after SIGTERM, and is not killed."""
    async with hole() as url:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "10"}
        start = f"import os; os.environ.update({env!r}); from mcp_server_claude.__main__ import main; main()"
        async with stdio_process(tmp_path / "data", command=("-c", start), base_url=upstream.url) as stdio:
            await stdio.initialize()
            await stdio.send(tool_call(1, "Hello."))
            await stdio.read_response(1)
            stdio.process.terminate()
            assert await stdio.wait_for_exit() == 128 + 15


@asynccontextmanager
async def hole() -> AsyncGenerator[str]:
    """A port that takes connections and never says anything."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with anyio.create_task_group() as tasks:

        async def swallow(stream: Any) -> None:
            async with stream:
                await anyio.sleep_forever()

        tasks.start_soon(listener.serve, swallow)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
        yield f"http://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()
    await listener.aclose()


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, [], []),
        ({"OTEL_SERVICE_NAME": "x"}, [], []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ["otlp"], ["otlp"]),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, ["otlp"], []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_METRICS_EXPORTER": "none"}, ["otlp"], []),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp"], []),
    ],
)
def test_the_standard_variables_decide_what_is_exported_where(
    environ: dict[str, str], traces: list[str], metrics: list[str]
) -> None:
    assert exporter_settings.exporter_names(environ, "TRACES") == traces
    assert exporter_settings.exporter_names(environ, "METRICS") == metrics
    assert exporter_settings.is_enabled(environ) == bool(traces or metrics)
    assert not exporter_settings.is_enabled(environ | {"OTEL_SDK_DISABLED": "TRUE"})


OWN_PROVIDER = """
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
set_meter_provider(MeterProvider(metric_readers=[reader]))
from mcp_server_claude import telemetry
from mcp_server_claude.call_types import Call, Usage
from mcp_server_claude.telemetry.metrics import record_call_metrics
from mcp_server_claude.telemetry.stderr_logging import CallOutcome
for _ in range(2):
    telemetry.start_telemetry({})
record_call_metrics(CallOutcome(call=Call(prompt="Hello."), end="complete", usage=Usage(duration_s=2.0)), users=False)
(resource,) = reader.get_metrics_data().resource_metrics
for metric in resource.scope_metrics[0].metrics:
    print(metric.name, metric.data.data_points[0].count)
"""
"""A process that has a meter provider of its own, and none of the variables."""


def test_a_meter_provider_that_the_process_has_already_gets_each_measurement_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OWN_PROVIDER], capture_output=True, text=True, check=True, env=server_environment()
    )
    assert done.stdout == "gen_ai.client.operation.duration 1\n"


@pytest.mark.slow
def test_where_the_sdk_is_disabled_no_exporter_is_started_in_a_process_that_has_imported_it() -> None:
    code = (
        "import opentelemetry.sdk.trace; from opentelemetry import trace; from mcp_server_claude import telemetry; "
        "telemetry.start_telemetry({'OTEL_SDK_DISABLED': 'true', 'OTEL_TRACES_EXPORTER': 'console'}); "
        "print(type(trace.get_tracer_provider()).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=server_environment()
    )
    assert done.stdout == "ProxyTracerProvider\n"


async def test_console_spans_do_not_mix_with_the_protocol(upstream: Simulator, tmp_path: Path) -> None:
    async with client_of_server(
        tmp_path / "data", {"OTEL_TRACES_EXPORTER": "console"}, base_url=upstream.url
    ) as client:
        assert not (await ask(client, "Hello.")).is_error
        assert not (await ask(client, "Hello again.")).is_error


async def test_without_the_variables_no_module_of_the_sdk_is_imported(upstream: Simulator, tmp_path: Path) -> None:
    command = ("-X", "importtime", "-m", "mcp_server_claude")
    async with stdio_process(tmp_path / "data", command=command, base_url=upstream.url) as stdio:
        await stdio.initialize()
        await stdio.send(tool_call(1, "Hello."))
        await stdio.read_response(1)
    imported = stdio.stderr.read_text()
    assert "mcp_server_claude.telemetry" in imported
    assert "opentelemetry.sdk" not in imported
    assert "prometheus_client" not in imported


@asynccontextmanager
async def over_http(data_dir: Path, otel: Mapping[str, str], **fields: object) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client at an HTTP server process that has these `OTEL_*` variables."""
    env = server_environment(api_key=FAKE_KEY, data_dir=data_dir, **fields) | dict(otel)
    process = subprocess.Popen(  # noqa: ASYNC220 - it takes a millisecond
        server_command("serve", "--http", "--port", "0"), stdout=subprocess.PIPE, env=env
    )
    stdout = cast("IO[bytes]", process.stdout)
    try:
        line = (await anyio.to_thread.run_sync(stdout.readline)).decode()
        url = next(word for word in line.split() if word.startswith("http://"))
        async with httpx2.AsyncClient(base_url=url, timeout=None, trust_env=False) as client:
            yield client
        process.terminate()
        assert await anyio.to_thread.run_sync(process.wait) == 0
    finally:
        process.kill()
        process.wait()
        stdout.close()


@pytest.mark.slow
async def test_a_chat_continues_the_trace_of_its_request(upstream: Simulator, tmp_path: Path) -> None:
    async with collecting() as collector:
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        async with over_http(tmp_path / "data", otel, base_url=upstream.url) as client:
            headers = {"traceparent": TRACEPARENT, "Accept": "text/plain"}
            answer = await client.post("/chat", json={"message": f"Remember: {SECRET}."}, headers=headers)
            assert answer.status_code == 200
            await collector.until(lambda: collector.spans_named("POST /chat"))
    [server], [ours], [sdk] = (
        collector.spans_named(name) for name in ("POST /chat", "chat", "anthropic.messages.create")
    )
    assert {span.trace for span in (server, ours, sdk)} == {TRACE}
    assert (server.parent, ours.parent, sdk.parent) == (CALLER, server.id, ours.id)
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["gen_ai.conversation.id"] == ours.attributes["gen_ai.conversation.id"]
    assert [line["trace_id"] for line in ledger_rows(tmp_path / "data")] == [TRACE]
    assert SECRET.encode() not in b"".join(collector.bodies)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_over_http_a_call_continues_the_trace_of_its_header_unless_its_request_names_one(
    upstream: Simulator, tmp_path: Path, mode: str
) -> None:
    other = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with collecting() as collector:
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        async with over_http(tmp_path / "data", otel, base_url=upstream.url) as http:
            http.headers["traceparent"] = TRACEPARENT
            async with Client(streamable_http_client(f"{http.base_url}/mcp", http_client=http), mode=mode) as client:
                by_header = await client.call_tool("claude_ask", {"prompt": "Hello."})
                meta: Any = {"traceparent": f"00-{other}-{CALLER}-01"}
                by_itself = await client.call_tool("claude_ask", {"prompt": "Hello again."}, meta=meta)
            await collector.until(lambda: len(collector.spans_named("tools/call")) == 2)
    assert [usage_meta(each)["trace_id"] for each in (by_header, by_itself)] == [TRACE, other]
    calls = {span.trace: span for span in collector.spans_named("tools/call")}
    assert {calls[TRACE].parent, calls[other].parent} == {CALLER}
    sdk = {span.trace for span in collector.spans_named("anthropic.messages.create")}
    assert sdk == {TRACE, other}
