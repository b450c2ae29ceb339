"""The parameters of a question to Claude, described and checked once for MCP, HTTP and the shell.

Each alias is the type of a parameter with its limits and its description. `build_call` makes the call of the arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args

import anyio.to_thread
from pydantic import BeforeValidator, Field
from pydantic.fields import FieldInfo

from mcp_server_claude import schemas
from mcp_server_claude.call_types import Call, Effort, ToolName
from mcp_server_claude.errors import RequestError
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.lone_surrogates import replace_lone_surrogates
from mcp_server_claude.redaction import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server_claude.users.user import User


def _without_empty_choice(schema: dict[str, Any]) -> None:
    """Remove the empty string from an enum: hosts on Gemini are reported to refuse every request with a tool that has
    one. Such a parameter is optional anyway.
    """
    schema["enum"] = [value for value in schema.get("enum", ()) if value != ""]
    schema.pop("default", None)


def _refuse_boolean(value: object) -> object:
    """The value, unless it is a boolean: `true` would be read as 1 token or 1 dollar.

    Raises:
        ValueError: It is a boolean.
    """
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic reports it as the field's error
    return value


PromptParam: TypeAlias = Annotated[
    str, Field(description="The question or task, with everything Claude needs: it sees nothing else.", min_length=1)
]
ModelParam: TypeAlias = Annotated[
    str,
    Field(
        description="A family for its newest model (haiku cheapest, sonnet default, opus for hard problems, fable "
        "hardest), or an id."
    ),
]
EffortParam: TypeAlias = Annotated[
    Effort, Field(description="How hard to think.", json_schema_extra=_without_empty_choice)
]
SystemParam: TypeAlias = Annotated[str, Field(description="Role and rules for the answer.")]
MaxTokensParam: TypeAlias = Annotated[
    int,
    Field(description="The most output tokens. 0: the model's limit.", ge=0, le=10_000_000),
    BeforeValidator(_refuse_boolean),
]
MaxUsdParam: TypeAlias = Annotated[
    float,
    Field(description="The most dollars for the answer. 0: no limit.", ge=0, le=1_000_000, allow_inf_nan=False),
    BeforeValidator(_refuse_boolean),
]
FilesParam: TypeAlias = Annotated[
    list[str],
    Field(description="Paths or globs in the project, https URLs, data: URIs, file ids: text, code, PDF, images."),
]
SchemaParam: TypeAlias = Annotated[
    dict[str, object], Field(description="JSON Schema that the answer is valid against.")
]
ToolsParam: TypeAlias = Annotated[
    list[ToolName],
    Field(description="web: search and cite. code: run code, make files. read: look into the project's files."),
]
ThreadParam: TypeAlias = Annotated[
    str, Field(description="Continue a conversation: the id (t_…) in an answer's last line.")
]
BackgroundParam: TypeAlias = Annotated[
    bool, Field(description="Return a job id at once; claude_jobs returns the answer.")
]
BatchParam: TypeAlias = Annotated[bool, Field(description="Half price, within 24 h.")]
ItemsParam: TypeAlias = Annotated[
    list[Any],
    Field(description="Texts or objects; or one glob (each file is an item) or .jsonl/.csv/.tsv path (each row is)."),
]
TemplateParam: TypeAlias = Annotated[
    str,
    Field(
        description="The task. {item}, or {field} of rows and objects, is replaced; without them the item follows.",
        min_length=1,
    ),
]
ItemSchemaParam: TypeAlias = Annotated[dict[str, object], Field(description="JSON Schema for each answer.")]
JobMaxUsdParam: TypeAlias = Annotated[
    float,
    Field(description="The most dollars for all items together. 0: no limit.", ge=0, le=1_000_000, allow_inf_nan=False),
    BeforeValidator(_refuse_boolean),
]
OutputParam: TypeAlias = Annotated[str, Field(description="A .jsonl or .csv path in the project. Default: a new file.")]
DryRunParam: TypeAlias = Annotated[bool, Field(description="Only estimate the cost.")]

FILES_ONLY_PROMPT = "Please look at the attached files."
"""The prompt if there are only files: the API refuses empty text."""
MAX_CLIENT_CHARS = 60


@frozen_dataclass(kw_only=True)
class CallOrigin:
    """The origin of a call.

    Args:
        tool: The MCP tool, `chat` over HTTP, or the command of the shell.
        source: The transport.
        client: The name that the client gave. It is cut to 60 characters, and its control characters are replaced.
        user: The user who asks.
        trace_id: The OpenTelemetry trace; empty without one.
        shows_status: A person watches the call's progress.
    """

    tool: str
    source: Literal["mcp", "http", "shell"]
    client: str
    user: User
    trace_id: str = ""
    shows_status: bool = False


async def build_call(
    origin: CallOrigin,
    *,
    prompt: str,
    model: str = "",
    effort: Effort = "",
    system: str = "",
    max_tokens: int = 0,
    max_usd: float = 0.0,
    files: Sequence[str] = (),
    schema: Mapping[str, object] | None = None,
    tools: Sequence[ToolName] = (),
    thread: str = "",
    batch: bool = False,
) -> Call:
    """The call that these arguments ask for. The schema is parsed on a thread.

    Raises:
        RequestError: There is neither a prompt nor a file, or the schema is not a JSON Schema.
    """
    if not prompt.strip():
        if not files:
            raise RequestError("The prompt is empty. Say what Claude should do.")
        prompt = FILES_ONLY_PROMPT
    return Call(
        prompt=replace_lone_surrogates(prompt),
        system=replace_lone_surrogates(system),
        model=model.strip(),
        effort=effort,
        max_tokens=max_tokens,
        max_usd=max_usd,
        thread=thread.strip(),
        tools=tuple(dict.fromkeys(tools)),
        batch=batch,
        files=tuple(files),
        schema=await anyio.to_thread.run_sync(schemas.parse_json_schema, schema) if schema else None,
        tool=origin.tool,
        source=origin.source,
        client=printable(origin.client[:MAX_CLIENT_CHARS]),
        user=origin.user.name,
        limits=origin.user.limits,
        trace_id=origin.trace_id,
        shows_status=origin.shows_status,
    )


def parameter_description(parameter: object) -> str:
    """The description of a parameter, given its alias: for the help of a command."""
    return next(each.description or "" for each in get_args(parameter) if isinstance(each, FieldInfo))
