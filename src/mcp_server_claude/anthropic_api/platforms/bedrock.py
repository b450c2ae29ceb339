"""Amazon Bedrock: `InvokeModel` (legacy) and its endpoint of the Messages API."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from mcp_server_claude.anthropic_api.platforms.aws import AWS_CREDENTIALS, AmazonPlatform
from mcp_server_claude.anthropic_api.platforms.platform import (
    FILE_SOURCE_FEATURES,
    SERVER_TOOL_FEATURES,
    SNAPSHOT_DATE,
    Feature,
    without_date,
)

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from httpx2 import AsyncClient

    from mcp_server_claude.anthropic_api.credentials import Credential
    from mcp_server_claude.settings import PlatformName, Settings

INVOKE_MODEL_ID = re.compile(r"claude-(?:3-|[a-z]+-4(?:-[0-6])?(?=-\d{8}|-v\d|$))")
"""Models that `InvokeModel` serves itself, 4.6 and older. It passes later ones on to the endpoint of the Messages API,
which has no structured outputs."""
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
"""The inference profile of a region: that of its geography, since a configured region is intended, else the global
one (docs, "Claude in Amazon Bedrock", regions). Without a profile, newer models are refused."""
HOW_TO_AUTHENTICATE = f"Set AWS_BEARER_TOKEN_BEDROCK or {AWS_CREDENTIALS} in the environment of mcp-server-claude."
MAX_IMAGE_BYTES = 5_000_000
"""Bytes of one image as base64 on Bedrock (platform.claude.com/docs, "Vision", 2026-08-22)."""


class Bedrock(AmazonPlatform):
    """Bedrock's `InvokeModel`, whose stream botocore decodes."""

    name: ClassVar[PlatformName] = "bedrock"
    title = "Amazon Bedrock"
    client_class = "AsyncAnthropicBedrock"
    extra = "bedrock"
    how_to_authenticate = HOW_TO_AUTHENTICATE
    unsupported: ClassVar[frozenset[Feature]] = frozenset(
        (
            *SERVER_TOOL_FEATURES,
            *FILE_SOURCE_FEATURES,
            "models",
            "count_tokens",
            "batch",
            "structured_outputs",
            "automatic_caching",
            "thinking_count",
        )
    )
    max_request_bytes = 20_000_000
    max_image_bytes = MAX_IMAGE_BYTES
    url_template = "https://bedrock-runtime.{region}.amazonaws.com"
    url_variable = "ANTHROPIC_BEDROCK_BASE_URL"
    key_variables = ("AWS_BEARER_TOKEN_BEDROCK",)
    needs_boto3 = True

    def build_client(
        self, settings: Settings, credential: Credential, http_client: AsyncClient, telemetry: Any
    ) -> AsyncAnthropic:
        """The SDK's client, with botocore's description of the stream loaded (it is slow, and cached)."""
        import_module("anthropic.lib.bedrock._stream_decoder").get_response_stream_shape()
        return super().build_client(settings, credential, http_client, telemetry)

    def unsupported_for(self, model_id: str) -> frozenset[Feature]:
        """The features that are unavailable for this model: older ones have structured outputs here."""
        if INVOKE_MODEL_ID.search(model_id):
            return self.unsupported - {"structured_outputs"}
        return self.unsupported

    def platform_model_id(self, model_id: str, region: str = "") -> str:
        """The inference profile of the model in this region."""
        return f"{_inference_profile(region)}.anthropic.{_versioned_bedrock_id(model_id)}"

    def _restored_headers(self, credential: Credential) -> dict[str, str]:
        del credential
        return {}  # the SDK sets them later, or writes them into the body


class BedrockMantle(AmazonPlatform):
    """Bedrock's endpoint of the Messages API."""

    name: ClassVar[PlatformName] = "bedrock-mantle"
    title = "Amazon Bedrock (Messages API)"
    client_class = "AsyncAnthropicBedrockMantle"
    extra = "bedrock"
    how_to_authenticate = HOW_TO_AUTHENTICATE
    unsupported: ClassVar[frozenset[Feature]] = frozenset(
        (*SERVER_TOOL_FEATURES, *FILE_SOURCE_FEATURES, "models", "batch", "structured_outputs", "thinking_count")
    )
    max_image_bytes = MAX_IMAGE_BYTES
    url_template = "https://bedrock-mantle.{region}.api.aws/anthropic"
    url_variable = "ANTHROPIC_BEDROCK_MANTLE_BASE_URL"
    key_variables = ("AWS_BEARER_TOKEN_BEDROCK", "ANTHROPIC_AWS_API_KEY")

    def platform_model_id(self, model_id: str, region: str = "") -> str:
        """The id of the model behind `anthropic.`, without its date."""
        del region
        return f"anthropic.{without_date(model_id)}"


def _inference_profile(region: str) -> str:
    return next(profile for prefix, profile in INFERENCE_PROFILE_REGIONS if region.startswith(prefix))


def _versioned_bedrock_id(model_id: str) -> str:
    """The id with the version that the older models carry (`-v1:0` after a date, `-v1` of Opus 4.6)."""
    if SNAPSHOT_DATE.search(model_id):
        return f"{model_id}-v1:0"
    return f"{model_id}-v1" if model_id == "claude-opus-4-6" else model_id
