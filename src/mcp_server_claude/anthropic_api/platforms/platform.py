"""A platform that serves Claude: its credentials, its client, its model ids, and the features that it lacks.

The features are Anthropic's own table (platform.claude.com/docs, "Features overview", "Claude in Amazon Bedrock",
"Claude on Amazon Bedrock (legacy)", "Claude on Google Cloud", "Claude in Microsoft Foundry", "Claude Platform on AWS",
as of 2026-08-22) and the SDK's (2.14: `lib/bedrock`, `lib/aws`, `lib/vertex`, `lib/foundry.py`). Where they differ, a
feature that the SDK refuses counts as unsupported. A statement that is older than a model is taken to hold for that
model too.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, cast, get_args

from mcp_server_claude.anthropic_api.credentials import custom_header_names
from mcp_server_claude.call_types import THINKING_BLOCK_TYPES
from mcp_server_claude.errors import ConfigurationError, RequestError, TemporaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anthropic import AsyncAnthropic
    from httpx2 import AsyncClient

    from mcp_server_claude.anthropic_api.credentials import Credential
    from mcp_server_claude.anthropic_api.request_body import RequestBody
    from mcp_server_claude.call_types import Call
    from mcp_server_claude.errors import CallError
    from mcp_server_claude.settings import PlatformName, Settings

Feature: TypeAlias = Literal[
    "models", "count_tokens", "batch", "files", "url_sources", "web_search", "web_fetch", "code_execution",
    "programmatic", "structured_outputs", "automatic_caching", "thinking_count",
]  # fmt: skip
FILES_BETA = "files-api-2025-04-14"
"""A feature that a platform may lack. `models` is the list of models, `programmatic` code that calls the other server
tools, `automatic_caching` the top-level `cache_control`, `thinking_count` the beta that counts thinking tokens."""
FEATURES: tuple[Feature, ...] = get_args(Feature)

SERVER_TOOL_FEATURES: frozenset[Feature] = frozenset({"web_search", "web_fetch", "code_execution", "programmatic"})
FILE_SOURCE_FEATURES: frozenset[Feature] = frozenset({"files", "url_sources"})
MAX_CACHE_BREAKPOINTS = 4
"""Cache breakpoints that a request may have (docs, "Prompt caching")."""
SNAPSHOT_DATE = re.compile(r"-(\d{8})$")
CLOUD_LIBRARIES = ("boto3.", "botocore.", "google.auth.", "azure.")
NO_CREDENTIALS_MESSAGES = (
    "Could not resolve AWS credentials",
    "Could not resolve API token",
    "Could not resolve project_id",
)
"""Messages of the bare `RuntimeError` or `ValueError` that the SDK (2.14) raises where there are no credentials."""
OPTION_LABELS = {
    "aws_region": "region",
    "region": "region",
    "project_id": "project",
    "workspace_id": "workspace",
}


class Platform(ABC):
    """A platform that serves Claude. A new one is a file with a subclass, its line in `PLATFORMS`, and its name in
    `settings.PlatformName`.

    `client_class` names the SDK's client, `extra` the extra of this package that installs what the client imports,
    and `how_to_authenticate` the sentence for missing credentials. `is_cloud` is False for Anthropic's own API alone:
    on a cloud, answers are reported under the requested id (prices differ by it), and errors name the cloud.
    """

    name: ClassVar[PlatformName]
    title: ClassVar[str]
    client_class: ClassVar[str]
    extra: ClassVar[str] = ""
    how_to_authenticate: ClassVar[str] = ""
    unsupported: ClassVar[frozenset[Feature]] = frozenset()
    is_cloud: ClassVar[bool] = True
    files_beta: ClassVar[str] = ""
    """The beta of the Files API where that is not generally available, else empty
    (https://platform.claude.com/docs/en/build-with-claude/files, 2026-08-22)."""
    max_request_bytes: ClassVar[int] = 32_000_000
    """Bytes of a request (platform.claude.com/docs, "Errors", request size limits, 2026-08-22)."""
    max_image_bytes: ClassVar[int] = 10_000_000
    """Bytes of one image as base64 (platform.claude.com/docs, "Vision", 2026-08-22)."""

    @abstractmethod
    def find_credential(self, settings: Settings) -> Credential:
        """The credential that requests will carry.

        Raises:
            ConfigurationError: A package, a region, a project or a key is missing, or cannot be sent.
        """

    @abstractmethod
    def build_client(
        self, settings: Settings, credential: Credential, http_client: AsyncClient, telemetry: Any
    ) -> AsyncAnthropic:
        """The SDK's client. Called on a thread, since it imports the platform's libraries."""

    def description(self, credential: Credential) -> str:
        """The platform for people: `Amazon Bedrock, region eu-west-1`."""
        options = credential.options.items()
        return ", ".join([self.title, *(f"{OPTION_LABELS[name]} {value}" for name, value in options)])

    def counts_thinking(self, credential: Credential) -> bool:
        """True if the beta that counts thinking tokens is known to be accepted at this credential's address."""
        del credential
        return False

    def inference_region(self, credential: Credential) -> str:
        """The region to which this credential's endpoint confines inference at a higher price; empty if there is none,
        or if the model's id or the response says so.
        """
        del credential
        return ""

    def unsupported_for(self, model_id: str) -> frozenset[Feature]:
        """The features that are unavailable for this model, by the id that the platform gives it."""
        del model_id
        return self.unsupported

    def platform_model_id(self, model_id: str, region: str = "") -> str:
        """The platform's id of a model, from Anthropic's id."""
        del region
        return model_id

    def library_error(self, error: Exception) -> CallError | None:
        """The call error for an exception of a cloud's own library, or of the SDK where it found no credentials.

        None for any other exception.
        """
        if f"{type(error).__module__}.".startswith(CLOUD_LIBRARIES):
            problem = f"The credentials for {self.title} could not be used ({type(error).__name__})."
            if type(error).__name__ == "TransportError":
                return TemporaryError(f"{problem} Try again.", kind="connection")
            return ConfigurationError(f"{problem} {self.how_to_authenticate}", kind="authentication")
        if isinstance(error, RuntimeError | ValueError) and str(error).startswith(NO_CREDENTIALS_MESSAGES):
            return ConfigurationError(
                f"There are no credentials for {self.title}. {self.how_to_authenticate}", kind="no_key"
            )
        return None

    def with_platform_wording(self, call_error: CallError, api_message: str, credential: Credential) -> CallError:
        """The error, rewritten where Anthropic's wording is wrong here: a cloud has no Console and maybe no key."""
        match call_error.kind:
            case "authentication":
                message = f"{self.title} does not accept the credentials from {credential.source}.{api_message}"
            case "permission":
                message = (
                    f"The credentials from {credential.source} have no permission for this on {self.title}."
                    f"{api_message}"
                )
            case _:
                return call_error
        return call_error.with_message(message)

    def check_call(self, call: Call) -> None:
        """Check that the platform has the features that a call uses.

        Raises:
            RequestError: It has not; nothing has been sent.
        """
        if "web" in call.tools and "web_search" in self.unsupported:
            raise self._unsupported_error("has no web search")
        if "code" in call.tools and "code_execution" in self.unsupported:
            raise self._unsupported_error("has no code execution")
        sources = {
            str(cast("Mapping[str, object]", block.get("source") or {}).get("type")) for block in call.attachments
        }
        if "url" in sources and "url_sources" in self.unsupported:
            raise self._unsupported_error(
                "takes no files from https URLs", "Save the file in the project and give its path."
            )
        if "file" in sources and "files" in self.unsupported:
            raise self._unsupported_error("takes no file ids", "Give the file's path.")

    def adapt_body(self, body: RequestBody) -> RequestBody:
        """The request in the form that this platform accepts."""
        if "web_fetch" in self.unsupported and body.get("tools"):
            tools = cast("list[RequestBody]", body["tools"])
            body = body | {"tools": [tool for tool in tools if tool.get("name") != "web_fetch"]}
        if "automatic_caching" in self.unsupported and "cache_control" in body:
            body = _with_explicit_breakpoint(body)
        return body

    def _unsupported_error(self, limitation: str, alternative: str = "") -> RequestError:
        message = f"{self.title}, which this server uses, {limitation}."
        return RequestError(f"{message} {alternative}".strip(), kind="unsupported")


class CloudPlatform(Platform):
    """A platform of another company, with a client class of its own in the SDK."""

    def build_client(
        self, settings: Settings, credential: Credential, http_client: AsyncClient, telemetry: Any
    ) -> AsyncAnthropic:
        """The SDK's client for the cloud.

        Headers that `ANTHROPIC_CUSTOM_HEADERS` adds are omitted: they are for another address and may hold its key.
        Omitting a header that the SDK sets itself would take away the SDK's as well, so those are set again.
        """
        import anthropic

        del settings
        headers: dict[str, Any] = dict.fromkeys(custom_header_names(), anthropic.omit)
        if headers:
            headers |= self._restored_headers(credential)
        build = cast("Callable[..., AsyncAnthropic]", getattr(anthropic, self.client_class))
        key = {} if credential.key is None else {"api_key": credential.key.get_secret_value()}
        return build(
            **credential.options,
            **key,
            **self._client_arguments(credential),
            base_url=credential.base_url,
            max_retries=0,  # the engine retries: the SDK would wait through any Retry-After without a word
            default_headers=headers,
            open_telemetry=telemetry,
            http_client=http_client,
        )

    def _restored_headers(self, credential: Credential) -> dict[str, str]:
        """The headers that the SDK's client sets at its construction; none if it sets them later."""
        del credential
        return {}

    def _client_arguments(self, credential: Credential) -> Mapping[str, Any]:
        """Further arguments of the SDK's client."""
        del credential
        return {}


def without_date(model_id: str) -> str:
    """The model id without its snapshot's date."""
    return SNAPSHOT_DATE.sub("", model_id)


def _with_explicit_breakpoint(body: RequestBody) -> RequestBody:
    """The request with its automatic caching written as a breakpoint on the last block that can carry one."""
    cache_control = body["cache_control"]
    rest: RequestBody = {name: value for name, value in body.items() if name != "cache_control"}
    if str(rest).count("'cache_control'") >= MAX_CACHE_BREAKPOINTS:
        return rest
    messages = [dict(message) for message in cast("list[dict[str, object]]", rest["messages"])]
    content = messages[-1]["content"]
    source = (
        [{"type": "text", "text": content}] if isinstance(content, str) else cast("list[dict[str, object]]", content)
    )
    blocks: list[dict[str, object]] = [dict(block) for block in source]
    for block in reversed(blocks):
        if block.get("type") not in THINKING_BLOCK_TYPES and block.get("text") != "":
            block.setdefault("cache_control", cache_control)
            break
    messages[-1]["content"] = blocks
    return rest | {"messages": messages}
