"""OpenTelemetry's SDK, set up from the usual variables. Only here is it imported.

Not by its own auto-configuration (`opentelemetry.sdk._configuration`): that one is private, exports nothing unless
every exporter is named, sends OTLP over gRPC, and leaves an exit handler behind that waits 30 s for a dead collector.
Samplers, limits, headers, protocols and resources are read by the SDK's own classes.
"""

from __future__ import annotations

import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from mcp_server_claude import __version__
from mcp_server_claude.telemetry.call_spans import CONVERSATION_ID
from mcp_server_claude.telemetry.exporter_settings import exporter_names, is_enabled
from mcp_server_claude.telemetry.metrics import keep_sink
from mcp_server_claude.telemetry.otel_instruments import record_on_instruments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span
    from opentelemetry.util.types import Attributes

DEFAULT_SERVICE_NAME = "mcp-server-claude"
SPAN_BATCH_DELAY_MS = 1000.0
"""How long spans are gathered before they are sent; the SDK's 5 s is longer than many a stdio server lives."""

_log = logging.getLogger(__name__)


def start_sdk(environ: Mapping[str, str]) -> list[Callable[[], object]]:
    """Provide tracing and metrics to the whole process; what sends the rest at its end.

    A process that has a tracer provider already, e.g. by `opentelemetry-instrument`, keeps it.
    """
    keep_sink(record_on_instruments)
    if not is_enabled(environ) or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return []
    resource = _build_resource()
    flushes: list[Callable[[], object]] = []
    if spans := _load_exporters(environ, "TRACES"):
        tracer = TracerProvider(resource=resource, shutdown_on_exit=False)
        tracer.add_span_processor(ConversationIdProcessor())
        for make in spans:
            delay = None if environ.get("OTEL_BSP_SCHEDULE_DELAY") else SPAN_BATCH_DELAY_MS
            tracer.add_span_processor(BatchSpanProcessor(make(), schedule_delay_millis=delay))
        trace.set_tracer_provider(tracer)
        flushes.append(tracer.force_flush)
    if measurements := _load_exporters(environ, "METRICS"):
        readers = [_metric_reader(make()) for make in measurements]
        meter = MeterProvider(resource=resource, metric_readers=readers, shutdown_on_exit=False)
        metrics.set_meter_provider(meter)
        flushes.append(meter.force_flush)
    return flushes


class ConversationIdProcessor(SpanProcessor):
    """Gives the conversation of a call to the spans within it, those of Anthropic's SDK above all."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Take over what the span around this one has."""
        around = cast("Attributes", getattr(trace.get_current_span(parent_context), "attributes", None)) or {}
        if CONVERSATION_ID in around and CONVERSATION_ID not in (span.attributes or {}):
            span.set_attribute(CONVERSATION_ID, around[CONVERSATION_ID])


def _build_resource() -> Resource:
    """The resource from `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, with our own name as the default."""
    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: DEFAULT_SERVICE_NAME}))
    return resource


def _load_exporters(environ: Mapping[str, str], signal: str) -> list[Callable[[], Any]]:
    """The exporters of a signal that are named and installed. A wrong name is reported and ignored."""
    found: list[Callable[[], Any]] = []
    for name in exporter_names(environ, signal):
        protocol = environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        known = ("otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http") if name == "otlp" else name
        offered = entry_points(group=f"opentelemetry_{signal.lower()}_exporter", name=known)
        try:
            found += [each.load() for each in offered]
        except Exception as error:  # noqa: BLE001 - a package that is half there must not stop the server
            _log.warning("The exporter %s could not be loaded: %s", known, error)
        if not offered:
            _log.warning("OTEL_%s_EXPORTER names %s, which is not installed.", signal, known)
    return found


def _metric_reader(exporter: Any) -> MetricReader:
    """An exporter that is asked, or one that is to be pushed once in a while."""
    return exporter if isinstance(exporter, MetricReader) else PeriodicExportingMetricReader(exporter)
