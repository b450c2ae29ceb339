"""Claude through Bedrock, Vertex, Foundry and AWS: what is sent there, what comes back, and what is lacking.

Nothing leaves this machine: the SDK's own clients, with their own signing and decoding, talk to a server of the test.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mcp_server_claude import pricing
from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.anthropic_api.message_stream import MessageStream
from mcp_server_claude.anthropic_api.platforms import PLATFORMS, find_credential
from mcp_server_claude.anthropic_api.platforms.aws import AmazonPlatform
from mcp_server_claude.anthropic_api.platforms.platform import FEATURES
from mcp_server_claude.anthropic_api.request_body import build_request_body
from mcp_server_claude.anthropic_api.token_estimate import estimate_input_tokens
from mcp_server_claude.call_types import CHARS_PER_TOKEN, Call
from mcp_server_claude.cli import doctor
from mcp_server_claude.errors import ConfigurationError
from mcp_server_claude.image_headers import MAX_IMAGE_TOKENS
from mcp_server_claude.settings import Settings
from support.cloud_upstream import (
    BEDROCK_STREAM,
    CannedResponse,
    CloudUpstream,
    ReceivedRequest,
    bedrock_exception,
    bedrock_stream,
    cloud_upstream,
)
from support.mcp_session import connect, failure_meta, text_blocks, usage_meta
from support.recorded_streams import message_events, sse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp_server_claude.settings import PlatformName

pytestmark = pytest.mark.anyio

Name = Literal["aws", "bedrock", "bedrock-mantle", "vertex", "foundry"]
CLOUDS: tuple[Name, ...] = ("aws", "bedrock", "bedrock-mantle", "vertex", "foundry")
ANTHROPICS, GATEWAYS = "sk-ant-for-anthropic-alone", "for-a-gateway-alone"
SECRET = "fake/secret+key"
ANSWER = "Hello from a cloud."
EVENTS = message_events("Hello ", "from a ", "cloud.")


def installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ImportError:
        return False


HAS = {
    "boto3": installed("boto3"),
    "google.auth": installed("google.auth"),
    "azure.identity": installed("azure.identity"),
}
NEEDS: dict[Name, str] = {"aws": "boto3", "bedrock": "boto3", "bedrock-mantle": "boto3", "vertex": "google.auth"}


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not HAS[package], reason=f"{package} is not installed (an extra brings it)")


def platform_parameters(*names: Name) -> list[object]:
    """Platforms as parameters, each skipped, saying so, where its package is not installed."""
    return [pytest.param(name, marks=[needs(NEEDS[name])] if name in NEEDS else []) for name in names]


EACH = pytest.mark.parametrize("name", platform_parameters(*CLOUDS))


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cloud's configuration of this machine is seen, and none of its metadata services is asked."""
    import os

    for variable in os.environ:
        if variable.startswith(("AWS_", "GOOGLE_", "CLOUD_", "AZURE_", "GCLOUD_", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws-credentials"))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))


class PlatformEnvironment:
    """Sets a cloud's environment, and asks Claude there."""

    def __init__(self, name: Name, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
        self.name: Name = name
        self.tmp_path = tmp_path
        self.patch = patch

    def set(self, **variables: str) -> None:
        for variable, value in variables.items():
            self.patch.setenv(variable, value)

    def furnish(self, cloud: CloudUpstream) -> dict[str, Any]:
        """Everything that the platform needs; its settings."""
        match self.name:
            case "vertex":
                self.set(CLOUD_ML_REGION="europe-west1", ANTHROPIC_VERTEX_PROJECT_ID="tea-project")
                self.set(GOOGLE_APPLICATION_CREDENTIALS=str(service_account(self.tmp_path, f"{cloud.url}/token")))
            case "foundry":
                self.set(ANTHROPIC_FOUNDRY_API_KEY="fake-foundry-key")
            case _:
                self.set(AWS_REGION="eu-central-1", AWS_ACCESS_KEY_ID="AKIAFAKE00000000", AWS_SECRET_ACCESS_KEY=SECRET)
                self.set(ANTHROPIC_AWS_WORKSPACE_ID="wrkspc_fake")
        return {"platform": self.name, "base_url": cloud.url}


@pytest.fixture
def platform_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Name], PlatformEnvironment]:
    return lambda name: PlatformEnvironment(name, tmp_path, monkeypatch)


def service_account(directory: Path, token_uri: str) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = directory / "service-account.json"
    fields = {"type": "service_account", "client_email": "tea@tea-project.iam.example", "private_key_id": "1"}
    path.write_text(json.dumps(fields | {"private_key": pem, "token_uri": token_uri, "project_id": "tea-project"}))
    return path


TOKEN = CannedResponse(
    "/token", json.dumps({"access_token": "fake-google-token", "expires_in": 3600}).encode(), "application/json"
)


def answers(name: Name, *more: CannedResponse) -> tuple[CannedResponse, ...]:
    """A cloud that says hello, in the way of its platform."""
    counted = CannedResponse("count", json.dumps({"input_tokens": 1234}).encode(), "application/json")
    hello = (
        CannedResponse("invoke", bedrock_stream(EVENTS), BEDROCK_STREAM)
        if name == "bedrock"
        else CannedResponse("", sse_bytes(*EVENTS))
    )
    models = CannedResponse("/v1/models", b'{"data": []}', "application/json")
    return (*more, TOKEN, counted, models, hello)


def messages(cloud: CloudUpstream) -> list[ReceivedRequest]:
    """The requests for an answer."""
    return [each for each in cloud.requests if each.method == "POST" and "token" not in each.path]


async def answer_to_call(settings: dict[str, Any], call: Call, model: str = "m") -> MessageStream:
    claude = ClaudeClient(Settings.model_validate(settings))
    answer = MessageStream(lambda _: None)
    try:
        await claude.stream_message(build_request_body(call, model=model, max_tokens=99, cache="5m"), answer)
    finally:
        await claude.close()
    return answer


# --------------------------------------------------------------------- what is sent


@EACH
async def test_an_answer_streams_from_the_platform_and_is_priced_and_recorded(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path, name: Name
) -> None:
    async with cloud_upstream(*answers(name)) as cloud:
        settings = platform_environment(name).furnish(cloud)
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            result = await session.ask("Tea?", model="opus")
            (line,) = session.ledger_rows()
    assert text_blocks(result)[0] == ANSWER
    used = usage_meta(result)
    assert used["complete"] is True
    assert used["cost_usd"] is not None
    assert (line["end"], line["host"]) == ("complete", "127.0.0.1")
    assert len(messages(cloud)) == 1


SENT: dict[Name, tuple[str, str]] = {
    "aws": ("/v1/messages", "claude-opus-5-5"),
    "bedrock": ("/model/eu.anthropic.claude-opus-5-5/invoke-with-response-stream", ""),
    "bedrock-mantle": ("/v1/messages", "anthropic.claude-opus-5-5"),
    "vertex": (
        "/projects/tea-project/locations/europe-west1/publishers/anthropic/models/claude-opus-5-5:streamRawPredict",
        "",
    ),
    "foundry": ("/v1/messages", "claude-opus-5-5"),
}
"""Where a request goes, and what its body names as the model."""


@EACH
async def test_a_family_means_the_id_of_the_platform_in_the_place_where_the_platform_expects_it(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path, name: Name
) -> None:
    async with cloud_upstream(*answers(name)) as cloud:
        settings = platform_environment(name).furnish(cloud)
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            assert text_blocks(await session.ask("Tea?", model="opus", effort="high"))[0] == ANSWER
    (request,) = messages(cloud)
    path, model = SENT[name]
    assert request.path == path
    assert request.body.get("model", "") == model
    assert request.body["output_config"] == {"effort": "high"}
    in_body = name in {"bedrock", "vertex"}
    assert request.body.get("anthropic_version") == ("2026-10-21" if in_body else None)
    assert request.headers.get("anthropic-version") == (None if in_body else "2026-10-21")
    assert request.body.get("stream") == (None if name == "bedrock" else True)


@EACH
async def test_only_the_credentials_of_the_platform_are_sent(
    platform_environment: Callable[[Name], PlatformEnvironment], name: Name
) -> None:
    """A key for Anthropic's own API, or for a gateway, never reaches a cloud."""
    async with cloud_upstream(*answers(name)) as cloud:
        where = platform_environment(name)
        settings = where.furnish(cloud) | {"api_key": ANTHROPICS}
        where.set(
            ANTHROPIC_API_KEY=ANTHROPICS,
            ANTHROPIC_AUTH_TOKEN=ANTHROPICS,
            ANTHROPIC_BASE_URL="http://gateway.invalid",
            ANTHROPIC_CUSTOM_HEADERS=f"Authorization: Bearer {GATEWAYS}\nX-Api-Key: {GATEWAYS}\nX-Team: {GATEWAYS}\n"
            f"anthropic-version: {GATEWAYS}\nAnthropic-Workspace-Id: {GATEWAYS}",
        )
        answer = await answer_to_call(settings, Call(prompt="Tea?"))
    assert answer.text == ANSWER
    (request,) = messages(cloud)
    everything = str(request.headers) + str(request.raw)
    assert ANTHROPICS not in everything
    assert GATEWAYS not in everything
    assert SECRET not in everything
    authorization = request.headers.get("authorization", "")
    match name:
        case "vertex":
            assert authorization == "Bearer fake-google-token"
        case "foundry":
            assert (request.headers["api-key"], authorization) == ("fake-foundry-key", "")
        case _:
            service = {"aws": "aws-external-anthropic", "bedrock": "bedrock", "bedrock-mantle": "bedrock-mantle"}[name]
            assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIAFAKE00000000/")
            assert f"/eu-central-1/{service}/aws4_request" in authorization
            assert "x-api-key" not in request.headers
    assert request.headers.get("anthropic-workspace-id") == ("wrkspc_fake" if name == "aws" else None)


KEYS: list[object] = [
    pytest.param("aws", "ANTHROPIC_AWS_API_KEY"),
    pytest.param("bedrock", "AWS_BEARER_TOKEN_BEDROCK", marks=needs("boto3")),
    pytest.param("bedrock-mantle", "AWS_BEARER_TOKEN_BEDROCK"),
    pytest.param("bedrock-mantle", "ANTHROPIC_AWS_API_KEY"),
]


@pytest.mark.parametrize(("name", "variable"), KEYS)
async def test_a_key_of_amazons_is_used_before_a_signature(
    platform_environment: Callable[[Name], PlatformEnvironment], name: Name, variable: str
) -> None:
    async with cloud_upstream(*answers(name)) as cloud:
        where = platform_environment(name)
        settings = where.furnish(cloud)
        where.set(
            **{variable: " fake-amazon-key\n"},
            ANTHROPIC_CUSTOM_HEADERS=f"authorization: Bearer {GATEWAYS}",
        )
        assert find_credential(Settings.model_validate(settings)).source == variable
        answer = await answer_to_call(settings, Call(prompt="Tea?"))
    assert answer.text == ANSWER
    (request,) = messages(cloud)
    assert request.headers["authorization"] == "Bearer fake-amazon-key"
    assert "x-amz-date" not in request.headers


@needs("boto3")
async def test_a_region_and_keys_are_also_found_in_the_profile_that_is_named(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path
) -> None:
    (tmp_path / "aws-config").write_text("[profile tea]\nregion = ap-northeast-1\n")
    (tmp_path / "aws-credentials").write_text(
        "[tea]\naws_access_key_id = AKIAPROFILE00000\naws_secret_access_key = fake\n"
    )
    where = platform_environment("bedrock")
    where.set(AWS_PROFILE="tea")
    async with cloud_upstream(*answers("bedrock")) as cloud:
        settings: dict[str, Any] = {"platform": "bedrock", "base_url": cloud.url}
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            assert text_blocks(await session.ask("Tea?", model="opus"))[0] == ANSWER
            config = await session.info(about="config")
    (request,) = messages(cloud)
    assert "/model/jp.anthropic.claude-opus-5-5/" in request.path
    assert "Credential=AKIAPROFILE00000/" in request.headers["authorization"]
    assert "platform: Amazon Bedrock, region ap-northeast-1" in config
    assert "key: from AWS_PROFILE" in config


@needs("azure.identity")
async def test_without_a_key_foundry_is_called_with_a_token_of_microsoft(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path
) -> None:
    """A managed identity's endpoint, as App Service gives one."""
    token = {"access_token": "fake-entra-token", "expires_on": "4102444800", "resource": "x", "token_type": "Bearer"}
    where = platform_environment("foundry")
    response = CannedResponse("/msi", json.dumps(token).encode(), "application/json")
    async with cloud_upstream(*answers("foundry", response)) as cloud:
        where.set(IDENTITY_ENDPOINT=f"{cloud.url}/msi", IDENTITY_HEADER="fake")
        settings: dict[str, Any] = {"platform": "foundry", "base_url": cloud.url}
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            assert text_blocks(await session.ask("Tea?"))[0] == ANSWER
    (asked_for,) = cloud.requests_to("/msi")
    assert "resource=https" in asked_for.path
    assert "ai.azure.com" in asked_for.path
    (request,) = messages(cloud)
    assert request.headers["authorization"] == "Bearer fake-entra-token"
    assert "api-key" not in request.headers


@needs("boto3")
async def test_cache_breakpoints_are_set_where_bedrock_has_no_automatic_caching(
    platform_environment: Callable[[Name], PlatformEnvironment],
) -> None:
    async with cloud_upstream(*answers("bedrock")) as cloud:
        settings = platform_environment("bedrock").furnish(cloud)
        await answer_to_call(settings, Call(prompt="More?"))
    (request,) = messages(cloud)
    assert "cache_control" not in request.body
    *_, last = cast("list[dict[str, object]]", request.body["messages"])
    assert last["content"] == [{"type": "text", "text": "More?", "cache_control": {"type": "ephemeral", "ttl": "5m"}}]


@pytest.mark.parametrize("name", platform_parameters("aws", "bedrock-mantle", "vertex", "foundry"))
async def test_automatic_caching_is_used_where_the_platform_has_it(
    platform_environment: Callable[[Name], PlatformEnvironment], name: Name
) -> None:
    async with cloud_upstream(*answers(name)) as cloud:
        await answer_to_call(platform_environment(name).furnish(cloud), Call(prompt="Tea?"))
    (request,) = messages(cloud)
    assert request.body["cache_control"] == {"type": "ephemeral", "ttl": "5m"}


@needs("google.auth")
async def test_without_web_fetch_only_web_search_is_offered(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path
) -> None:
    async with cloud_upstream(*answers("vertex")) as cloud:
        settings = platform_environment("vertex").furnish(cloud)
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            assert text_blocks(await session.ask("Tea?", model="opus", tools=["web"]))[0] == ANSWER
    (request,) = messages(cloud)
    (tool,) = cast("list[dict[str, object]]", request.body["tools"])
    assert tool["type"] == "web_search_20250305"  # later ones filter by code, which is not there either


@needs("google.auth")
@pytest.mark.parametrize(("region", "factor"), [("global", "1"), ("us", "1.1"), ("eu", "1.1"), ("europe-west1", "1.1")])
async def test_a_regional_endpoint_of_google_costs_a_tenth_more(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path, region: str, factor: str
) -> None:
    async with cloud_upstream(*answers("vertex")) as cloud:
        vertex = platform_environment("vertex")
        settings = vertex.furnish(cloud)
        vertex.set(CLOUD_ML_REGION=region)
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            used = usage_meta(await session.ask("Tea?", model="opus"))
    rates = pricing.find_rates(str(used["model"]))
    assert rates is not None
    list_price = cast("int", used["input_tokens"]) * rates.input + cast("int", used["output_tokens"]) * rates.output
    assert used["cost_usd"] == pytest.approx(float(list_price * Decimal(factor)) / 1e6)
    assert used["inference_geo"] == (None if region == "global" else region)


@pytest.mark.parametrize("name", platform_parameters("aws", "foundry"))
async def test_requests_with_files_name_the_beta_where_the_files_api_is_one(
    platform_environment: Callable[[Name], PlatformEnvironment], name: Name
) -> None:
    document = {"type": "document", "source": {"type": "file", "file_id": "file_011CNha8iCJcU1wXNR6q4V8w"}}
    async with cloud_upstream(*answers(name)) as cloud:
        settings = platform_environment(name).furnish(cloud)
        await answer_to_call(settings, Call(prompt="Read it.", attachments=(document,)))
        await answer_to_call(settings, Call(prompt="Tea?"))
    betas = [request.headers.get("anthropic-beta", "") for request in messages(cloud)]
    assert ["files-api-2025-04-14" in beta for beta in betas] == [True, False]


# --------------------------------------------------------------------- names

NAMES: list[tuple[PlatformName, str, str, str]] = [
    ("anthropic", "", "claude-opus-5-5", "claude-opus-5-5"),
    ("aws", "eu-west-1", "claude-haiku-4-5-20251001", "claude-haiku-4-5-20251001"),
    ("bedrock", "us-east-1", "claude-opus-5-5", "us.anthropic.claude-opus-5-5"),
    ("bedrock", "us-gov-west-1", "claude-opus-5", "us-gov.anthropic.claude-opus-5"),
    ("bedrock", "ca-central-1", "claude-opus-5", "us.anthropic.claude-opus-5"),
    ("bedrock", "eu-west-3", "claude-sonnet-4-6", "eu.anthropic.claude-sonnet-4-6"),
    ("bedrock", "eu-west-3", "claude-opus-4-6", "eu.anthropic.claude-opus-4-6-v1"),
    ("bedrock", "ap-northeast-3", "claude-haiku-4-5-20251001", "jp.anthropic.claude-haiku-4-5-20251001-v1:0"),
    ("bedrock", "ap-southeast-2", "claude-opus-5", "au.anthropic.claude-opus-5"),
    ("bedrock", "ap-south-1", "claude-fable-5-2", "global.anthropic.claude-fable-5-2"),
    ("bedrock", "", "claude-opus-4-8", "global.anthropic.claude-opus-4-8"),
    ("bedrock-mantle", "us-east-1", "claude-haiku-4-5-20251001", "anthropic.claude-haiku-4-5"),
    ("vertex", "global", "claude-opus-5-5", "claude-opus-5-5"),
    ("vertex", "global", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5@20250929"),
    ("foundry", "", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
]


@pytest.mark.parametrize(("name", "region", "anthropics", "theirs"), NAMES)
def test_each_platform_has_model_ids_of_its_own(name: PlatformName, region: str, anthropics: str, theirs: str) -> None:
    assert PLATFORMS[name].platform_model_id(anthropics, region) == theirs
    unpriced = theirs.startswith("us-gov.") or theirs == "anthropic.claude-haiku-4-5"
    assert (pricing.find_rates(theirs) is None) is unpriced


@needs("boto3")
@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("sonnet", "eu.anthropic.claude-sonnet-5-5"),
        ("claude-opus-5-5", "eu.anthropic.claude-opus-5-5"),
        ("claude-haiku-4-5", "eu.anthropic.claude-haiku-4-5-20251001-v1%3A0"),
        ("global.anthropic.claude-opus-5-5", "global.anthropic.claude-opus-5-5"),
        (
            "arn:aws:bedrock:eu-central-1:1:application-inference-profile/x1",
            "arn:aws:bedrock:eu-central-1:1:application-inference-profile%2Fx1",
        ),
    ],
)
async def test_families_and_ids_of_anthropic_are_translated_and_unknown_ids_passed_on(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path, given: str, sent: str
) -> None:
    async with cloud_upstream(*answers("bedrock")) as cloud:
        settings = platform_environment("bedrock").furnish(cloud)
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            assert text_blocks(await session.ask("Tea?", model=given))[0] == ANSWER
    (request,) = messages(cloud)
    assert request.path.replace("%3A", ":") == f"/model/{sent}/invoke-with-response-stream".replace("%3A", ":")


@needs("boto3")
async def test_the_usage_names_and_prices_the_requested_id(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path
) -> None:
    """The answer says only what Anthropic calls the model; a profile of a region costs a tenth more."""
    async with cloud_upstream(*answers("bedrock")) as cloud:
        settings = platform_environment("bedrock").furnish(cloud)
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            ours, unknown = await session.ask("Tea?", model="haiku"), await session.ask("Tea?", model="arn:aws:x/y")
    assert usage_meta(ours)["model"] == "eu.anthropic.claude-haiku-5-5"
    assert usage_meta(unknown)["model"] == "claude-haiku-5-5"
    assert cast("float", usage_meta(ours)["cost_usd"]) == pytest.approx(
        1.1 * cast("float", usage_meta(unknown)["cost_usd"])
    )


# --------------------------------------------------------------------- what is lacking


def test_every_platform_lists_its_missing_features_by_known_names() -> None:
    for platform in PLATFORMS.values():
        assert platform.unsupported <= set(FEATURES)
    assert not PLATFORMS["anthropic"].unsupported | PLATFORMS["aws"].unsupported


REFUSED: list[object] = [
    pytest.param(
        "bedrock",
        {"tools": ["web"]},
        "which this server uses, has no web search.",
        marks=needs("boto3"),
    ),
    pytest.param("vertex", {"tools": ["code"]}, "has no code execution.", marks=needs("google.auth")),
    pytest.param("bedrock", {"files": ["https://example.com/a.pdf"]}, "no files from https URLs", marks=needs("boto3")),
    pytest.param("bedrock", {"files": ["file_011CNha8iCJcU1wXNR6q4V8w"]}, "no file ids", marks=needs("boto3")),
    pytest.param("vertex", {"files": ["https://example.com/a.pdf"]}, "no files from https", marks=needs("google.auth")),
    pytest.param(
        "bedrock",
        {"schema": {"type": "object", "properties": {"a": {"type": "string"}}}, "model": "opus"},
        "does not support a schema: it has no structured outputs here",
        marks=needs("boto3"),
    ),
]


@pytest.mark.parametrize(("name", "arguments", "response"), REFUSED)
async def test_a_feature_that_the_platform_lacks_is_rejected_before_anything_is_sent(
    platform_environment: Callable[[Name], PlatformEnvironment],
    tmp_path: Path,
    name: Name,
    arguments: dict[str, Any],
    response: str,
) -> None:
    async with cloud_upstream(*answers(name)) as cloud:
        settings = platform_environment(name).furnish(cloud)
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            result = await session.ask("Tea?", **arguments)
    assert failure_meta(result)["kind"] == "unsupported"
    assert response in text_blocks(result)[0]
    assert cloud.requests == []


@needs("boto3")
async def test_without_structured_outputs_a_tool_is_forced_and_old_models_have_them(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    async with cloud_upstream(*answers("bedrock")) as cloud:
        settings = platform_environment("bedrock").furnish(cloud)
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            await session.ask("Tea?", schema=schema, model="haiku")
            await session.ask("Tea?", schema=schema, model="claude-sonnet-4-5")
    first, *_, last = messages(cloud)
    assert "tool_choice" in first.body
    assert "output_config" not in first.body
    assert "format" in cast("dict[str, object]", last.body["output_config"])


@EACH
async def test_the_models_are_listed_under_the_platforms_names_without_what_it_lacks(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path, name: Name
) -> None:
    async with cloud_upstream(*answers(name)) as cloud:
        settings = platform_environment(name).furnish(cloud)
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            table = await session.info(about="models")
    (row,) = [line for line in table.splitlines() if "claude-opus-5-5" in line]
    theirs = PLATFORMS[name].platform_model_id("claude-opus-5-5", "eu-central-1")
    assert row.startswith(f"| {theirs} |")
    can = row.split("|")[6].split()
    assert ("web" in can) is (not name.startswith("bedrock"))
    assert ("batch" in can) is (name == "aws")
    assert ("code" in can) is (name in {"aws", "foundry"})
    assert (cloud.requests_to("/v1/models") != []) is (name == "aws")


@pytest.mark.parametrize("name", platform_parameters("aws", "bedrock-mantle", "vertex", "foundry"))
async def test_a_dry_run_counts_tokens_where_the_platform_counts_them(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path, name: Name
) -> None:
    async with cloud_upstream(*answers(name)) as cloud:
        settings = platform_environment(name).furnish(cloud)
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            table = text_blocks(await session.ask("Tea?", dry_run=True))[0]
    assert "| 1.2k |" in table
    (counted,) = cloud.requests_to("count")
    assert "max_tokens" not in counted.body
    expected = (
        "publishers/anthropic/models/count-tokens:rawPredict" if name == "vertex" else "/v1/messages/count_tokens"
    )
    assert counted.path.endswith(expected)


@needs("boto3")
async def test_without_token_counting_the_input_is_estimated_and_reported_as_an_estimate(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path
) -> None:
    async with cloud_upstream(*answers("bedrock")) as cloud:
        settings: dict[str, Any] = platform_environment("bedrock").furnish(cloud) | {"budget_usd_per_day": 5}
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            table = text_blocks(await session.ask("Tea? " * 700, dry_run=True))[0]
            result = await session.ask("Tea? " * 700)
            (line,) = session.ledger_rows()
    assert re.search(r"\| at most \d\.\dk \|", table)
    assert "input estimated for the limit: Amazon Bedrock counts no tokens" in text_blocks(result)[1]
    assert cast("int", line["held_micros"]) > 0
    assert cloud.requests_to("count") == []


@pytest.mark.parametrize(
    "text",
    ["word " * 1000, "x = f(y[0], z)\n" * 200, "お茶を飲みますか。" * 100, "3.14159 " * 99, "Donaudampfschiff " * 99],
)
def test_an_estimate_exceeds_the_count_of_words_and_signs_and_that_of_prose(text: str) -> None:
    found = estimate_input_tokens({"messages": [{"role": "user", "content": text}]})
    assert found > len(re.findall(r"\w+|[^\w\s]", text))
    assert found > len(text) / CHARS_PER_TOKEN
    assert found < 3 * len(text.encode())


def test_an_image_is_estimated_at_the_limit_of_one_image_and_not_by_its_bytes() -> None:
    picture = {"type": "image", "source": {"type": "base64", "data": "A" * 4_000_000}}
    assert (
        MAX_IMAGE_TOKENS
        < estimate_input_tokens({"messages": [{"role": "user", "content": [picture]}]})
        < 1.1 * MAX_IMAGE_TOKENS
    )


# --------------------------------------------------------------------- what is missing

MISSING: list[object] = [
    pytest.param("aws", {}, "platform", "needs a region: set AWS_REGION or AWS_DEFAULT_REGION", marks=needs("boto3")),
    pytest.param(
        "aws", {"AWS_REGION": "us-east-1", "ANTHROPIC_AWS_API_KEY": "k"}, "platform", "set ANTHROPIC_AWS_WORKSPACE_ID"
    ),
    pytest.param("bedrock", {}, "platform", "Amazon Bedrock needs a region", marks=needs("boto3")),
    pytest.param(
        "bedrock", {"AWS_REGION": "evil.example/#"}, "platform", "AWS_REGION does not contain", marks=needs("boto3")
    ),
    pytest.param(
        "bedrock-mantle", {"AWS_BEARER_TOKEN_BEDROCK": "${TOKEN}"}, "no_key", "placeholder that was never filled in"
    ),
    pytest.param("vertex", {}, "platform", "needs a region: set CLOUD_ML_REGION", marks=needs("google.auth")),
    pytest.param(
        "vertex",
        {"CLOUD_ML_REGION": "global"},
        "platform",
        "set ANTHROPIC_VERTEX_PROJECT_ID",
        marks=needs("google.auth"),
    ),
    pytest.param(
        "foundry", {"ANTHROPIC_FOUNDRY_API_KEY": "k"}, "platform", "needs a resource: set ANTHROPIC_FOUNDRY_RESOURCE"
    ),
    pytest.param(
        "foundry", {"ANTHROPIC_FOUNDRY_API_KEY": "k k"}, "malformed_key", "ANTHROPIC_FOUNDRY_API_KEY contains a"
    ),
]


@pytest.mark.parametrize(("name", "variables", "kind", "response"), MISSING)
async def test_a_missing_setting_is_reported_in_one_sentence_and_the_server_stays_up(
    platform_environment: Callable[[Name], PlatformEnvironment],
    tmp_path: Path,
    name: Name,
    variables: dict[str, str],
    kind: str,
    response: str,
) -> None:
    platform_environment(name).set(**variables)
    fields: dict[str, Any] = {"platform": name}
    if kind == "malformed_key":
        fields["base_url"] = "http://127.0.0.1:9"
    async with connect("memory", "auto", tmp_path / "data", **fields) as session:
        for _ in range(2):
            result = await session.ask("Tea?")
            assert (failure_meta(result)["class"], failure_meta(result)["kind"]) == ("configuration_error", kind)
            assert response in text_blocks(result)[0]
        assert response in await session.info(about="config")


@pytest.mark.parametrize(
    ("name", "package"),
    [("aws", "boto3"), ("bedrock", "boto3"), ("bedrock-mantle", "boto3"), ("vertex", "google"), ("foundry", "azure")],
)
def test_a_package_that_is_not_installed_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: Name, package: str
) -> None:
    import sys

    for module in [each for each in sys.modules if each.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError) as raised:
        find_credential(Settings(platform=name))
    assert raised.value.kind == ("no_key" if name == "foundry" else "missing_extra")
    assert f'pip install "mcp-server-claude[{PLATFORMS[name].extra}]"' in str(raised.value)


@pytest.mark.parametrize("name", platform_parameters("aws", "bedrock", "bedrock-mantle"))
async def test_missing_credentials_are_reported_with_where_to_put_them(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path, name: Name
) -> None:
    platform_environment(name).set(AWS_REGION="us-east-1", ANTHROPIC_AWS_WORKSPACE_ID="w")
    async with connect("memory", "auto", tmp_path / "data", platform=name, base_url="http://127.0.0.1:9") as session:
        result = await session.ask("Tea?")
    assert failure_meta(result)["kind"] == "no_key"
    assert f"There are no credentials for {PLATFORMS[name].title}." in text_blocks(result)[0]
    assert "AWS_PROFILE" in text_blocks(result)[0]


@needs("boto3")
async def test_a_missing_profile_is_reported(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path
) -> None:
    platform_environment("bedrock").set(AWS_PROFILE="nobody")
    async with connect("memory", "auto", tmp_path / "data", platform="bedrock") as session:
        result = await session.ask("Tea?")
    assert failure_meta(result)["class"] == "configuration_error"
    assert "could not be used (ProfileNotFound)" in text_blocks(result)[0]


@needs("google.auth")
async def test_missing_or_rejected_google_credentials_are_reported(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path
) -> None:
    where = platform_environment("vertex")
    where.set(CLOUD_ML_REGION="global", ANTHROPIC_VERTEX_PROJECT_ID="p")
    refused = CannedResponse("/token", b'{"error": "invalid_grant"}', "application/json", 400)
    async with cloud_upstream(refused) as cloud:
        fields: dict[str, Any] = {"platform": "vertex", "base_url": cloud.url}
        async with connect("memory", "auto", tmp_path / "data", **fields) as session:
            missing = await session.ask("Tea?")
            where.set(GOOGLE_APPLICATION_CREDENTIALS=str(service_account(tmp_path, f"{cloud.url}/token")))
            wrong = await session.ask("Tea?")
    for result, error in ((missing, "DefaultCredentialsError"), (wrong, "RefreshError")):
        assert failure_meta(result)["class"] == "configuration_error"
        assert f"could not be used ({error}). Run `gcloud auth application-default login`" in text_blocks(result)[0]


# --------------------------------------------------------------------- what goes wrong there

FAULTS: list[tuple[Name, int, bytes, tuple[tuple[str, str], ...], str, str]] = [
    (
        "bedrock", 403,
        b'{"message": "The security token included in the request is invalid."}',
        (("x-amzn-errortype", "UnrecognizedClientException:http://x"), ("x-amzn-requestid", "amz-1")),
        "authentication",
        "Amazon Bedrock does not accept the credentials from AWS_ACCESS_KEY_ID. The API says: The security token",
    ),
    (
        "bedrock", 403,
        b'{"message": "The request signature we calculated does not match. The Canonical String ... s3cret-token"}',
        (("x-amzn-errortype", "InvalidSignatureException"),),
        "authentication",
        "does not accept the credentials",
    ),
    (
        "bedrock", 403,
        b'{"Message": "User is not authorized to perform bedrock:InvokeModel"}',
        (("x-amzn-errortype", "AccessDeniedException"),),
        "permission",
        "have no permission for this on Amazon Bedrock. The API says: User is not authorized",
    ),
    (
        "bedrock", 400,
        b'{"message": "Invocation of model ID anthropic.claude-x with on-demand throughput isn\'t supported."}',
        (("x-amzn-errortype", "ValidationException"),),
        "invalid_request",
        "with on-demand throughput isn't supported.",
    ),
    ("bedrock", 400, b'{"message": "Input is too long for requested model."}', (), "too_long", "The prompt is"),
    (
        "vertex", 403,
        b'{"error": {"code": 403, "message": "Permission denied on resource project tea.", "status": "DENIED"}}',
        (),
        "permission",
        (
            "have no permission for this on Google Cloud (Vertex AI). "
            "The API says: Permission denied on resource project tea."
        ),
    ),
    (
        "foundry", 401,
        b'{"error": {"code": "401", "message": "Access denied due to invalid subscription key."}}',
        (),
        "authentication",
        "Microsoft Foundry does not accept the credentials from ANTHROPIC_FOUNDRY_API_KEY.",
    ),
    ("foundry", 404, b'{"error": {"message": "deployment not found"}}', (), "not_found", "Check the model's name."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "status", "body", "headers", "kind", "response"),
    [pytest.param(*fault, marks=[needs(NEEDS[fault[0]])] if fault[0] in NEEDS else []) for fault in FAULTS],
)
async def test_a_rejection_is_reported_in_the_words_of_the_platform(
    platform_environment: Callable[[Name], PlatformEnvironment],
    tmp_path: Path,
    name: Name,
    status: int,
    body: bytes,
    headers: tuple[tuple[str, str], ...],
    kind: str,
    response: str,
) -> None:
    path = {"bedrock": "invoke", "vertex": "streamRawPredict", "foundry": "/v1/messages"}[name]
    async with cloud_upstream(TOKEN, CannedResponse(path, body, "application/json", status, headers)) as cloud:
        settings = platform_environment(name).furnish(cloud)
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            result = await session.ask("Tea?")
    assert failure_meta(result)["kind"] == kind
    text = text_blocks(result)[0]
    assert response in text
    assert "Console" not in text
    assert "s3cret" not in text
    if dict(headers).get("x-amzn-requestid"):
        assert failure_meta(result)["request_id"] == "amz-1"


@needs("boto3")
@pytest.mark.parametrize(
    ("exception", "kind"),
    [
        ("throttlingException", "rate_limit"),
        ("serviceUnavailableException", "overloaded"),
        ("modelStreamErrorException", "api_error"),
        ("validationException", "invalid_request"),
    ],
)
async def test_an_error_event_of_amazon_is_a_temporary_error(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path, exception: str, kind: str
) -> None:
    stream = bedrock_stream(EVENTS[:2]) + bedrock_exception(exception, "Too many tea parties.")
    async with cloud_upstream(CannedResponse("invoke", stream, BEDROCK_STREAM)) as cloud:
        settings: dict[str, Any] = platform_environment("bedrock").furnish(cloud) | {"max_retries": 0}
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            result = await session.ask("Tea?")
    assert failure_meta(result)["kind"] == kind


@needs("boto3")
@pytest.mark.parametrize("cut", [3, 40, 400])
async def test_an_amazon_stream_may_break_anywhere_and_is_then_incomplete(
    platform_environment: Callable[[Name], PlatformEnvironment], tmp_path: Path, cut: int
) -> None:
    async with cloud_upstream(CannedResponse("invoke", bedrock_stream(EVENTS)[:cut], BEDROCK_STREAM)) as cloud:
        settings: dict[str, Any] = platform_environment("bedrock").furnish(cloud) | {"max_retries": 0}
        async with connect("memory", "auto", tmp_path / "data", **settings) as session:
            result = await session.ask("Tea?")
    assert failure_meta(result)["kind"] == "truncated"


# --------------------------------------------------------------------- addresses

ADDRESSES: list[tuple[Name, dict[str, str], str]] = [
    ("aws", {}, "https://aws-external-anthropic.eu-central-1.api.aws"),
    ("bedrock", {}, "https://bedrock-runtime.eu-central-1.amazonaws.com"),
    ("bedrock", {"ANTHROPIC_BEDROCK_BASE_URL": "https://mine.example/x/"}, "https://mine.example/x"),
    ("bedrock-mantle", {}, "https://bedrock-mantle.eu-central-1.api.aws/anthropic"),
    ("vertex", {}, "https://europe-west1-aiplatform.googleapis.com/v1"),
    ("vertex", {"CLOUD_ML_REGION": "global"}, "https://aiplatform.googleapis.com/v1"),
    ("vertex", {"CLOUD_ML_REGION": "eu"}, "https://aiplatform.eu.rep.googleapis.com/v1"),
    ("foundry", {"ANTHROPIC_FOUNDRY_RESOURCE": "tea"}, "https://tea.services.ai.azure.com/anthropic"),
    ("foundry", {"ANTHROPIC_FOUNDRY_BASE_URL": "https://mine.example/"}, "https://mine.example"),
]


@pytest.mark.parametrize(
    ("name", "variables", "url"),
    [pytest.param(*each, marks=[needs(NEEDS[each[0]])] if each[0] in NEEDS else []) for each in ADDRESSES],
)
async def test_the_base_url_is_the_one_that_the_sdk_would_find(
    platform_environment: Callable[[Name], PlatformEnvironment], name: Name, variables: dict[str, str], url: str
) -> None:
    import anthropic

    where = platform_environment(name)
    where.furnish(CloudUpstream(()))
    where.set(**variables)
    found = find_credential(Settings(platform=name))
    assert found.base_url == url
    theirs = getattr(anthropic, PLATFORMS[name].client_class)()
    assert str(theirs.base_url).rstrip("/") == url
    await theirs.close()
    assert isinstance(PLATFORMS[name], AmazonPlatform) == (name in {"aws", "bedrock", "bedrock-mantle"})


@EACH
def test_the_configured_base_url_outranks_that_of_the_platform(
    platform_environment: Callable[[Name], PlatformEnvironment], name: Name
) -> None:
    where = platform_environment(name)
    where.furnish(CloudUpstream(()))
    where.set(ANTHROPIC_BEDROCK_BASE_URL="https://theirs.example", ANTHROPIC_VERTEX_BASE_URL="https://theirs.example")
    assert find_credential(Settings(platform=name, base_url="https://ours.example")).base_url == "https://ours.example"


# --------------------------------------------------------------------- what the doctor says


@EACH
async def test_the_doctor_names_the_platform_and_makes_a_free_request_to_it(
    platform_environment: Callable[[Name], PlatformEnvironment], monkeypatch: pytest.MonkeyPatch, name: Name
) -> None:
    async with cloud_upstream(*answers(name)) as cloud:
        fields = platform_environment(name).furnish(cloud)
        for field, value in fields.items():
            monkeypatch.setenv(f"MCP_CLAUDE_{field.upper()}", str(value))
        settings = Settings.load()
        findings, credential = doctor.check_credentials(settings)
        assert credential is not None
        reached, catalogue = await doctor.check_api(settings, doctor.platform_catalog(credential))
        (model, price) = doctor.check_model(settings, catalogue)
    assert findings[0].name == "platform"
    assert findings[0].text.startswith(PLATFORMS[name].title)
    assert all(finding.ok for finding in findings)
    assert reached.ok is (None if name in {"bedrock", "aws"} else True)  # this AWS lists no models
    assert model.text.startswith(PLATFORMS[name].platform_model_id("claude-sonnet-5-5", "eu-central-1"))
    assert price.ok


@needs("google.auth")
async def test_the_doctor_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_CLAUDE_PLATFORM", "vertex")
    (finding,), credential = doctor.check_credentials(Settings.load())
    assert credential is None
    assert (finding.name, finding.ok) == ("platform", False)
    assert "CLOUD_ML_REGION" in finding.text
    assert finding.hint
