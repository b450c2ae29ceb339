"""The models that can be asked, what each of them accepts, and what a caller means by a name."""

from mcp_server_claude.anthropic_api.models.model_capabilities import EFFORTS, Model, parse
from mcp_server_claude.anthropic_api.models.model_list_cache import Listed, Models, fetch_with, ours
from mcp_server_claude.anthropic_api.models.model_names import Catalogue, Source, admit

__all__ = ["EFFORTS", "Catalogue", "Listed", "Model", "Models", "Source", "admit", "fetch_with", "ours", "parse"]
