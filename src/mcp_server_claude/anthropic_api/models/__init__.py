"""The models that can be asked, what each of them accepts, and what a caller means by a name."""

from mcp_server_claude.anthropic_api.models.model_capabilities import EFFORT_LEVELS, ClaudeModel, parse_model_list
from mcp_server_claude.anthropic_api.models.model_list_cache import (
    ModelListCache,
    StaticModelList,
    bundled_catalog,
    fetch_model_list,
    stored_catalog,
)
from mcp_server_claude.anthropic_api.models.model_names import CatalogSource, ModelCatalog, check_model_accepts

__all__ = [
    "EFFORT_LEVELS",
    "CatalogSource",
    "ClaudeModel",
    "ModelCatalog",
    "ModelListCache",
    "StaticModelList",
    "bundled_catalog",
    "check_model_accepts",
    "fetch_model_list",
    "parse_model_list",
    "stored_catalog",
]
