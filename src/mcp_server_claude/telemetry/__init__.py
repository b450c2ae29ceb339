"""Traces and metrics by OpenTelemetry, for who sets its usual `OTEL_*` variables and has installed the extra `otel`.

Without those variables nothing of the OpenTelemetry SDK is imported, and what is recorded goes nowhere, at the price of
a few function calls. The variables are OpenTelemetry's own contract, so they are read where it reads them, and not
by `Settings`; what is particular to this server is a setting.

    calls     one span and one set of measurements for each call, made of what the engine tells
    meters    the instruments behind the measurements, and other places that take them
    sdk       OpenTelemetry's SDK, set up from the environment
    scrape    the same measurements for Prometheus
"""

from __future__ import annotations

import logging
import os
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SIGNALS = ("TRACES", "METRICS")
NO_EXPORTER = frozenset({"", "none"})

_log = logging.getLogger(__name__)
_flushes: list[Callable[[], object]] = []


def start_telemetry(environ: Mapping[str, str] = os.environ) -> None:
    """Set OpenTelemetry up where the environment asks for it; once. Nothing that is wrong with it stops the server."""
    if _flushes or not is_enabled(environ):
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


def is_enabled(environ: Mapping[str, str]) -> bool:
    """True if the variables name somewhere to send anything to."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return any(exporter_names(environ, signal) for signal in SIGNALS)


def exporter_names(environ: Mapping[str, str], signal: str) -> list[str]:
    """The exporters that the environment names for `TRACES` or `METRICS_PATH`. An OTLP endpoint alone means `otlp`."""
    if named := environ.get(f"OTEL_{signal}_EXPORTER", "").strip():
        return [name.strip() for name in named.split(",") if name.strip().lower() not in NO_EXPORTER]
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return ["otlp"] if any(environ.get(name, "").strip() for name in endpoints) else []


def begin_flush() -> Callable[[float], None]:
    """Begin to send what has not been sent; what is returned waits for that, so many seconds at most.

    On threads of its own, which an exit does not wait for: an exporter may hang for as long as its collector does.
    """
    threads = [Thread(target=each, name="telemetry-flush", daemon=True) for each in _flushes]
    for thread in threads:
        thread.start()

    def wait(seconds: float) -> None:
        for thread in threads:
            thread.join(seconds / len(threads))

    return wait
