"""Exporters that OpenTelemetry's own environment variables name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGNALS = ("TRACES", "METRICS")
NO_EXPORTER = frozenset({"", "none"})


def is_enabled(environ: Mapping[str, str]) -> bool:
    """True if the variables name somewhere to send anything to."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return any(exporter_names(environ, signal) for signal in SIGNALS)


def exporter_names(environ: Mapping[str, str], signal: str) -> list[str]:
    """The exporters that the environment names for `TRACES` or `METRICS`. An OTLP endpoint alone means `otlp`."""
    if named := environ.get(f"OTEL_{signal}_EXPORTER", "").strip():
        return [name.strip() for name in named.split(",") if name.strip().lower() not in NO_EXPORTER]
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return ["otlp"] if any(environ.get(name, "").strip() for name in endpoints) else []
