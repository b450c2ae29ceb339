"""The names of models that a shell completes, in a module that is imported only for that."""

from __future__ import annotations

from mcp_server_claude.anthropic_api.models import stored_catalog
from mcp_server_claude.settings import Settings


def model_names() -> tuple[str, ...]:
    """The families and ids of models, from the newest list on disk. Nothing is requested."""
    catalog = stored_catalog(Settings.load().data_dir)
    return (*catalog.callable_lines(), *catalog.callable_ids())
