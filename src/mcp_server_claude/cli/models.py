"""`mcp-server-claude models`: the models that can be asked, with limits and prices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from mcp_server_claude import number_formatting, pricing
from mcp_server_claude.cli import shell_call, terminal_output
from mcp_server_claude.cli.call_options import JsonOption

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.models import ClaudeModel, ModelCatalog
    from mcp_server_claude.services.lazy_services import Services

SOURCES = {"api": "the Models API", "disk": "the Models API, stored on disk", "file": "this package's own list"}


def show_models(*, as_json: JsonOption = False) -> None:
    """List the models with limits and prices."""
    catalog = shell_call.run_with_services(_read_catalog)
    models = catalog.callable_models
    if as_json:
        typer.echo(json.dumps([_model_json(model) for model in models], indent=2))
        return
    head = ("model", "family", "context", "max output", "effort", "$ in", "$ out")
    terminal_output.print_table(head, [_model_cells(model) for model in models], left=2)
    if notes := [model.lifecycle_note for model in models if model.lifecycle_note]:
        typer.echo("\n" + "\n".join(notes))
    typer.echo(
        f"\nDollars per million tokens ({pricing.price_list_version()}). "
        f"From {SOURCES[catalog.source]}, {catalog.as_of}."
    )


async def _read_catalog(services: Services) -> ModelCatalog:
    return await services.model_catalog()


def _model_cells(model: ClaudeModel) -> tuple[str, ...]:
    rates = pricing.find_rates(model.id)
    efforts = f"{model.efforts[0]}…{model.efforts[-1]}" if len(model.efforts) > 1 else "".join(model.efforts)
    return (
        model.id,
        model.line or "-",
        number_formatting.format_tokens(model.context_tokens) if model.context_tokens else "?",
        number_formatting.format_tokens(model.max_output_tokens) if model.max_output_tokens else "?",
        efforts or "-",
        f"{rates.input.normalize():f}" if rates else "?",
        f"{rates.output.normalize():f}" if rates else "?",
    )


def _model_json(model: ClaudeModel) -> dict[str, object]:
    rates = pricing.find_rates(model.id)
    return {
        "id": model.id,
        "family": model.line,
        "lifecycle": model.lifecycle,
        "context_tokens": model.context_tokens or None,
        "max_output_tokens": model.max_output_tokens or None,
        "efforts": list(model.efforts),
        "usd_per_million_input_tokens": float(rates.input) if rates else None,
        "usd_per_million_output_tokens": float(rates.output) if rates else None,
    }
