"""Where Claude is asked: what each platform lacks, what it calls the models, and how a request is made to fit it.

The table is Anthropic's own (platform.claude.com/docs, "Features overview", "Claude in Amazon Bedrock", "Claude on
Amazon Bedrock (legacy)", "Claude on Google Cloud", "Claude in Microsoft Foundry", "Claude Platform on AWS", as of
2026-08-22) and the SDK's (2.11: `lib/bedrock`, `lib/aws`, `lib/vertex`, `lib/foundry.py`). Where they differ, what the
SDK refuses is lacking. What was written before a model came out is taken to hold for it too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

from mcp_server_claude.call_types import THINKING_BLOCK_TYPES
from mcp_server_claude.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.anthropic_api.request_body import RequestBody
    from mcp_server_claude.call_types import Call

PlatformName: TypeAlias = Literal["anthropic", "aws", "bedrock", "bedrock-mantle", "vertex", "foundry"]

Feature: TypeAlias = Literal[
    "models", "count_tokens", "batch", "files", "url_sources", "web_search", "web_fetch", "code_execution",
    "programmatic", "structured_outputs", "automatic_caching", "thinking_count",
]  # fmt: skip
"""What a platform may lack. `models` is the list of models, `programmatic` code that calls the other server tools,
`automatic_caching` the top-level `cache_control`, `thinking_count` the beta that counts thinking as it is produced."""
FEATURES: tuple[Feature, ...] = get_args(Feature)

SERVER_TOOL_FEATURES: frozenset[Feature] = frozenset({"web_search", "web_fetch", "code_execution", "programmatic"})
FILE_SOURCE_FEATURES: frozenset[Feature] = frozenset({"files", "url_sources"})
MAX_CACHE_BREAKPOINTS = 4
"""Cache breakpoints that a request may have (docs, "Prompt caching")."""

INVOKE_MODEL_ID = re.compile(r"claude-(?:3-|[a-z]+-4(?:-[0-6])?(?=-\d{8}|-v\d|$))")
"""The models that `InvokeModel` serves itself, 4.6 and older. It passes later ones on to the endpoint of the Messages
API, which has no structured outputs."""
SNAPSHOT_DATE = re.compile(r"-(\d{8})$")
INFERENCE_PROFILE_REGIONS: tuple[tuple[str, str], ...] = (
    ("us-gov-", "us-gov"),
    ("us-", "us"),
    ("ca-", "us"),
    ("eu-", "eu"),
    ("ap-northeast-1", "jp"),
    ("ap-northeast-3", "jp"),
    ("ap-southeast-2", "au"),
    ("ap-southeast-4", "au"),
    ("", "global"),
)
"""The inference profile of a region of AWS: that of its geography, since who chose a region has a reason, else the
global one (docs, "Claude in Amazon Bedrock", regions). Without one, newer models are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """One way to Claude. `client` is the SDK's class for it, `extra` ours that brings what that class imports."""

    name: PlatformName
    title: str
    client_class: str
    extra: str = ""
    unsupported: frozenset[Feature] = frozenset()

    def unsupported_for(self, model: str) -> frozenset[Feature]:
        """What is lacking for this model, by the id that the platform knows it under."""
        if self.name == "bedrock" and INVOKE_MODEL_ID.search(model):
            return self.unsupported - {"structured_outputs"}
        return self.unsupported

    def platform_model_id(self, model: str, region: str = "") -> str:
        """The platform's id of a model, from Anthropic's."""
        undated = SNAPSHOT_DATE.sub("", model)
        match self.name:
            case "bedrock":
                return f"{_inference_profile(region)}.anthropic.{_versioned_bedrock_id(model)}"
            case "bedrock-mantle":
                return f"anthropic.{undated}"
            case "vertex":
                return SNAPSHOT_DATE.sub(r"@\1", model)
            case "foundry":
                return undated  # the name that a deployment has unless it was given another
            case _:
                return model

    def check_call(self, call: Call) -> None:
        """Look whether what a call asks for is there at all.

        Raises:
            RequestError: It is not; before anything is sent.
        """
        if "web" in call.tools and "web_search" in self.unsupported:
            raise self._unsupported_error("has no web search")
        if "code" in call.tools and "code_execution" in self.unsupported:
            raise self._unsupported_error("has no code execution")
        kinds = {str(cast("Mapping[str, object]", block.get("source") or {}).get("type")) for block in call.attachments}
        if "url" in kinds and "url_sources" in self.unsupported:
            raise self._unsupported_error(
                "takes no files from https URLs", "Save the file in the project and give its path."
            )
        if "file" in kinds and "files" in self.unsupported:
            raise self._unsupported_error("takes no file ids", "Give the file's path.")

    def adapt_body(self, body: RequestBody) -> RequestBody:
        """The request as this platform takes it."""
        if "web_fetch" in self.unsupported and body.get("tools"):
            tools = cast("list[RequestBody]", body["tools"])
            body = body | {"tools": [tool for tool in tools if tool.get("name") != "web_fetch"]}
        if "automatic_caching" in self.unsupported and "cache_control" in body:
            body = _with_explicit_breakpoint(body)
        return body

    def _unsupported_error(self, limitation: str, alternative: str = "") -> RequestError:
        message = f"{self.title}, where this server asks Claude, {limitation}."
        return RequestError(f"{message} {alternative}".strip(), kind="unsupported")


def _define_platform(name: PlatformName, title: str, client: str, *lacks: Feature, extra: str = "") -> Platform:
    return Platform(name=name, title=title, client_class=client, unsupported=frozenset(lacks), extra=extra)


PLATFORMS: dict[PlatformName, Platform] = {
    each.name: each
    for each in (
        _define_platform("anthropic", "Anthropic's own API", "AsyncAnthropic"),
        # Anthropic's own service behind AWS's door: everything is there.
        _define_platform("aws", "Claude Platform on AWS", "AsyncAnthropicAWS", extra="aws"),
        _define_platform(
            "bedrock", "Amazon Bedrock", "AsyncAnthropicBedrock",
            "models", "count_tokens", "batch", *SERVER_TOOL_FEATURES, *FILE_SOURCE_FEATURES,
            "structured_outputs", "automatic_caching", "thinking_count",
            extra="bedrock",
        ),
        _define_platform(
            "bedrock-mantle", "Amazon Bedrock (Messages API)", "AsyncAnthropicBedrockMantle",
            "models", "batch", *SERVER_TOOL_FEATURES, *FILE_SOURCE_FEATURES, "structured_outputs", "thinking_count",
            extra="bedrock",
        ),
        _define_platform(
            "vertex", "Google Cloud (Vertex AI)", "AsyncAnthropicVertex",
            "models", "batch", "web_fetch", "code_execution", "programmatic", *FILE_SOURCE_FEATURES, "thinking_count",
            extra="vertex",
        ),
        # Server tools, structured outputs and files are there on deployments hosted by Anthropic, and answered with
        # HTTP 400 on those hosted by Azure. Nothing tells one from the other beforehand.
        _define_platform(
            "foundry", "Microsoft Foundry", "AsyncAnthropicFoundry",
            "models", "batch", "thinking_count",
            extra="foundry",
        ),
    )
}  # fmt: skip


def _inference_profile(region: str) -> str:
    return next(profile for start, profile in INFERENCE_PROFILE_REGIONS if region.startswith(start))


def _versioned_bedrock_id(model: str) -> str:
    """The id with the version that the older models carry (`-v1:0` after a date, `-v1` of Opus 4.6)."""
    if SNAPSHOT_DATE.search(model):
        return f"{model}-v1:0"
    return f"{model}-v1" if model == "claude-opus-4-6" else model


def _with_explicit_breakpoint(body: RequestBody) -> RequestBody:
    """The request with its automatic caching said as a breakpoint on the last block that can carry one."""
    control = body["cache_control"]
    rest: RequestBody = {name: value for name, value in body.items() if name != "cache_control"}
    if str(rest).count("'cache_control'") >= MAX_CACHE_BREAKPOINTS:
        return rest
    messages = [dict(message) for message in cast("list[dict[str, object]]", rest["messages"])]
    content = messages[-1]["content"]
    given = (
        [{"type": "text", "text": content}] if isinstance(content, str) else cast("list[dict[str, object]]", content)
    )
    blocks: list[dict[str, object]] = [dict(block) for block in given]
    for block in reversed(blocks):
        if block.get("type") not in THINKING_BLOCK_TYPES and block.get("text") != "":
            block.setdefault("cache_control", control)
            break
    messages[-1]["content"] = blocks
    return rest | {"messages": messages}
