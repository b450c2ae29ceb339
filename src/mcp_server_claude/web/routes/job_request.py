"""The body of a job over HTTP: a question that is answered in the background, or one prompt over many items."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO, TextIOWrapper
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from pydantic import ConfigDict, Field

from mcp_server_claude.calls import ask_request
from mcp_server_claude.calls.ask_request import BatchParam, DryRunParam, ItemsParam
from mcp_server_claude.errors import RequestError
from mcp_server_claude.files.item_sources import read_table
from mcp_server_claude.jobs.map_jobs import MapRequest
from mcp_server_claude.web.routes.chat_request import ChatRequest, InlineFile

if TYPE_CHECKING:
    from mcp_server_claude.calls.ask_request import CallOrigin

QUESTION_FIELDS = ("thread", "tools", "files", "max_tokens")
"""Fields that a job with items does not take."""


class JobRequest(ChatRequest):
    """A question that is answered in the background, or with `items` or `table` one prompt over many items."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"message": "What is tea?", "batch": True},
                {"message": "Translate {item} to French.", "items": ["tea", "milk"], "max_usd": 0.5},
            ]
        },
    )

    message: str = Field(
        description="The question or task. For items `{item}`, or `{field}` of rows and objects, is replaced; without "
        "them the item follows."
    )
    items: ItemsParam = Field(default=[], max_length=100_000)
    table: InlineFile | None = Field(
        default=None, description="A `.jsonl`, `.csv` or `.tsv` file in place of `items`; each row is an item."
    )
    batch: BatchParam = False
    dry_run: DryRunParam = False

    @property
    def has_items(self) -> bool:
        """True for one prompt over many items."""
        return bool(self.items) or self.table is not None

    async def build_map(self, origin: CallOrigin) -> MapRequest:
        """The job of one prompt over many items.

        Raises:
            RequestError: A field is not one of such a job, or the table cannot be read.
        """
        if named := [name for name in QUESTION_FIELDS if getattr(self, name)]:
            raise RequestError(f"A job with items does not take {', '.join(named)}.")
        if self.table is not None and self.items:
            raise RequestError("items and table are two ways to give the items; send one of them.")
        template = await ask_request.build_call(
            origin,
            prompt=self.message,
            model=self.model,
            effort=self.effort,
            system=self.system,
            schema=self.schema_,
            batch=self.batch,
        )
        items = self.items if self.table is None else _rows_of(self.table)
        return MapRequest(template=template, items=items, max_usd=self.max_usd)


def _rows_of(table: InlineFile) -> list[object]:
    """The rows of a table.

    Raises:
        RequestError: It is no data URI, or no table.
    """
    with TextIOWrapper(BytesIO(_data_of(table)), encoding="utf-8-sig", newline="") as text:
        return [row.get("row", row.get("item")) for row in read_table(table.name, text)]


def _data_of(file: InlineFile) -> bytes:
    head, comma, data = file.data.partition(",")
    if not comma or not head.lower().startswith("data:"):
        raise RequestError("The data of a file is a data: URI (data:<media type>;base64,<data>).")
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(data)
    try:
        return b64decode(data, validate=True)
    except ValueError:
        raise RequestError("The data of the table is not base64.") from None
