"""The models that can be asked, what each of them accepts, and what a caller means by a name."""

from mcp_server_claude.models.catalogue import Catalogue, Source, admit
from mcp_server_claude.models.model import EFFORTS, Model, parse
from mcp_server_claude.models.service import Listed, Models, fetch_with, ours

__all__ = ["EFFORTS", "Catalogue", "Listed", "Model", "Models", "Source", "admit", "fetch_with", "ours", "parse"]
