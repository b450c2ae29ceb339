"""The body of a question over HTTP."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mcp_server_claude.calls import ask_request
from mcp_server_claude.calls.ask_request import (
    EffortParam,
    MaxTokensParam,
    MaxUsdParam,
    ModelParam,
    SchemaParam,
    SystemParam,
    ThreadParam,
    ToolsParam,
)
from mcp_server_claude.errors import RequestError
from mcp_server_claude.lone_surrogates import without_lone_surrogates

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Call
    from mcp_server_claude.calls.ask_request import CallOrigin

JOB_FIELDS = frozenset({"batch", "items", "table", "dry_run"})
"""The fields that only `POST /jobs` has (`job_request`)."""
DATA_URI_MEDIA_TYPE = re.compile(r"data:[^;,]*", re.IGNORECASE)


class InlineFile(BaseModel):
    """A file with its name, which Claude sees."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=255, description="The name of the file.", examples=["contract.pdf"])
    data: str = Field(description="Its content as a `data:…;base64,…` URI: text, PDF, PNG, JPEG, GIF or WebP.")

    def data_uri(self) -> str:
        """The file as a data URI that contains its name, as attachments are read.

        Raises:
            RequestError: The data is not a data URI.
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
    thread: ThreadParam = Field("", max_length=100, description="Continue this conversation (`t_…`); empty: a new one.")
    model: ModelParam = Field("", max_length=200)
    effort: EffortParam = ""
    system: SystemParam = ""
    max_tokens: MaxTokensParam = 0
    max_usd: MaxUsdParam = 0
    schema_: SchemaParam = Field(
        default={},
        alias="schema",
        description="A JSON Schema: the answer is JSON that is valid against it, and arrives when it is complete.",
    )
    tools: ToolsParam = Field(default=[], max_length=10)
    approval: str = Field(
        "",
        max_length=100,
        description="The `approval` of the error that refused this request for its cost. It holds for one request that "
        "is otherwise the same.",
    )
    files: list[InlineFile | str] = Field(
        default=[],
        max_length=1000,
        description="Objects with name and data, data: URIs, https URLs, ids of the Files API; paths only if the "
        "operator has named directories.",
    )

    @model_validator(mode="before")
    @classmethod
    def _replace_surrogates(cls, value: object) -> object:
        """Replace halves of surrogate pairs, which JSON can contain and UTF-8 cannot.

        Raises:
            ValueError: It is nested too deeply to look at.
        """
        try:
            return without_lone_surrogates(value)
        except RecursionError:
            raise ValueError("the request is nested too deeply") from None

    @model_validator(mode="before")
    @classmethod
    def _refuse_job_fields(cls, value: object) -> object:
        """Refuse the fields of `POST /jobs`, and name that route.

        Raises:
            ValueError: There is one of them.
        """
        present = frozenset(cast("dict[object, object]", value)) if isinstance(value, dict) else frozenset[object]()
        if names := sorted((JOB_FIELDS - cls.model_fields.keys()) & present):
            raise ValueError(f"{names[0]} is a field of POST /jobs, which answers in the background")
        return cast("object", value)

    async def build_call(self, origin: CallOrigin, *, batch: bool = False) -> Call:
        """The call of this request, with `batch` one that is answered in a batch.

        Raises:
            RequestError: There is neither a message nor a file, a file has no data, or the schema is not a JSON Schema.
        """
        return await ask_request.build_call(
            origin,
            prompt=self.message,
            model=self.model,
            effort=self.effort,
            system=self.system,
            max_tokens=self.max_tokens,
            max_usd=self.max_usd,
            files=[each.data_uri() if isinstance(each, InlineFile) else each for each in self.files],
            schema=self.schema_,
            tools=self.tools,
            thread=self.thread,
            batch=batch,
        )
