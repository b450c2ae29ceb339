"""The body of a question over HTTP."""

from __future__ import annotations

import re
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mcp_server_claude.call_types import Effort, ToolName
from mcp_server_claude.errors import RequestError
from mcp_server_claude.lone_surrogates import without_lone_surrogates

DATA_URI_MEDIA_TYPE = re.compile(r"data:[^;,]*", re.IGNORECASE)


class InlineFile(BaseModel):
    """A file with its name, which Claude sees."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=255, description="What the file is called.", examples=["contract.pdf"])
    data: str = Field(description="Its content as a `data:…;base64,…` URI: text, PDF, PNG, JPEG, GIF or WebP.")

    def data_uri(self) -> str:
        """The file as the attachments take it: a data URI that carries its name.

        Raises:
            RequestError: It is no data URI.
        """
        media_type = DATA_URI_MEDIA_TYPE.match(self.data[:200])
        if media_type is None:
            raise RequestError("The data of a file is a data: URI (data:<media type>;base64,<data>).")
        name = quote(self.name.strip(), safe="")
        return f"{media_type[0]};name={name}{self.data[media_type.end() :]}" if name else self.data


class ChatRequest(BaseModel):
    """A question to Claude. Only `message` is required."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"message": "What is tea?"}, {"message": "And coffee?", "max_tokens": 500}]},
    )

    message: str = Field(description="The question or task. It may be empty when there are files.")
    thread: str = Field("", max_length=100, description="Go on with this conversation (`t_…`); empty begins a new one.")
    model: str = Field("", max_length=200, description="A line (opus, sonnet, haiku, fable) or an exact id.")
    effort: Effort = Field("", description="How hard to think; empty: the model's own.")
    system: str = Field("", description="Role and rules for the answer.")
    max_tokens: int = Field(0, ge=0, le=10_000_000, description="Most tokens of the answer; 0: the model's limit.")
    max_usd: float = Field(
        0, ge=0, le=1_000_000, allow_inf_nan=False, description="Most dollars it may cost; 0: no limit of its own."
    )
    schema_: dict[str, object] = Field(
        default={},
        alias="schema",
        description="A JSON Schema: the answer is JSON that is valid against it, and comes when it is whole.",
    )
    tools: list[ToolName] = Field(
        default=[],
        max_length=10,
        description="What Claude may do by itself. `web`: search the web and cite. `code`: run code, make files. "
        "`read`: look around in the directories that the operator has named.",
    )
    files: list[InlineFile | str] = Field(
        default=[],
        max_length=1000,
        description="Objects with name and data, data: URIs, https URLs, ids of the Files API; paths only where the "
        "operator has named directories.",
    )

    @model_validator(mode="before")
    @classmethod
    def _replace_surrogates(cls, value: object) -> object:
        """JSON may carry halves of surrogate pairs, which nothing behind this door can.

        Raises:
            ValueError: It is nested too deeply to look at.
        """
        try:
            return without_lone_surrogates(value)
        except RecursionError:
            raise ValueError("the request is nested too deeply") from None

    def file_references(self) -> tuple[str, ...]:
        """The files as the attachments take them.

        Raises:
            RequestError: One has no data.
        """
        return tuple(each.data_uri() if isinstance(each, InlineFile) else each for each in self.files)
