"""Traces and metrics by OpenTelemetry, with its usual `OTEL_*` variables and the extra `otel`.

Without those variables nothing of the OpenTelemetry SDK is imported, and what is recorded goes nowhere, at the price of
a few function calls. The variables are OpenTelemetry's own contract, so they are read where it reads them, and not
by `Settings`; what is particular to this server is a setting.

    call_spans         one span and one set of measurements for each call, made of what the engine reports
    job_spans          one span for each background job
    metrics            the measurements of calls, and the sinks that take them
    exporter_settings  the exporters that the environment names
    otel_setup         OpenTelemetry's SDK, set up from the environment
    otel_instruments   the instruments behind the measurements, imported with that SDK
    prometheus         the same measurements for Prometheus
"""

from __future__ import annotations

import logging
import os
import sys
from threading import Thread
from typing import TYPE_CHECKING

from mcp_server_claude.telemetry.exporter_settings import is_enabled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SDK_MODULE = "opentelemetry.sdk"
"""Where it is imported already, e.g. by `opentelemetry-instrument`, it may have providers of its own."""

_log = logging.getLogger(__name__)
_flushes: list[Callable[[], object]] = []


def start_telemetry(environ: Mapping[str, str] = os.environ) -> None:
    """Set OpenTelemetry up where the environment asks for it; once. Nothing that is wrong with it stops the server."""
    if _flushes or not (is_enabled(environ) or SDK_MODULE in sys.modules):
        return
    try:
        from mcp_server_claude.telemetry import otel_setup
    except ImportError:
        _log.warning("OTEL_* variables are set, but the extra is not installed: mcp-server-claude[otel].")
        return
    try:
        _flushes.extend(otel_setup.start_sdk(environ))
    except Exception as error:  # noqa: BLE001 - exporters are other people's, and a server without traces is still one
        _log.warning("OpenTelemetry could not be set up: %s", error)


def begin_flush() -> Callable[[float], None]:
    """Begin to send what has not been sent; what is returned waits for that, so many seconds at most.

    On threads of its own, which an exit does not wait for: an exporter may hang for as long as its collector does.
    """
    threads = [Thread(target=each, name="telemetry-flush", daemon=True) for each in _flushes]
    for thread in threads:
        thread.start()

    def join_threads(seconds: float) -> None:
        for thread in threads:
            thread.join(seconds / len(threads))

    return join_threads
