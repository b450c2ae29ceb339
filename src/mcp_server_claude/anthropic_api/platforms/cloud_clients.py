"""Claude through a cloud: which credentials, which region, and the SDK's client for it.

Everything is looked for where the SDK itself looks, in the cloud's own environment variables, but before anything is
sent, so that what is missing is told in one sentence. A key for Anthropic's own API (`MCP_CLAUDE_API_KEY`,
`ANTHROPIC_API_KEY`) never goes to a cloud, nor do `ANTHROPIC_CUSTOM_HEADERS`: they are for another door, and may hold
that one's key.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import anyio.to_thread

from mcp_server_claude.anthropic_api import error_classification
from mcp_server_claude.anthropic_api.credentials import (
    API_VERSION,
    Credential,
    custom_header_names,
    validate_key,
    validate_url,
)
from mcp_server_claude.anthropic_api.platforms.platform import PLATFORMS
from mcp_server_claude.errors import CallError, ConfigurationError, TemporaryError
from mcp_server_claude.settings import APP_NAME, Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from anthropic import AsyncAnthropic
    from httpx2 import AsyncClient

    from mcp_server_claude.anthropic_api.platforms.platform import Platform

ADDRESS_PART = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")
"""A region, project, resource or workspace: it becomes part of an address."""
AWS_CREDENTIALS = "credentials of AWS (AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a role)"
HOW_TO_AUTHENTICATE = {
    "aws": f"Set ANTHROPIC_AWS_API_KEY or {AWS_CREDENTIALS} in this server's environment.",
    "bedrock": f"Set AWS_BEARER_TOKEN_BEDROCK or {AWS_CREDENTIALS} in this server's environment.",
    "bedrock-mantle": f"Set AWS_BEARER_TOKEN_BEDROCK or {AWS_CREDENTIALS} in this server's environment.",
    "vertex": "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS.",
    "foundry": "Set ANTHROPIC_FOUNDRY_API_KEY, or sign in with `az login`.",
}
AWS_URLS = {
    "aws": "https://aws-external-anthropic.{region}.api.aws",
    "bedrock": "https://bedrock-runtime.{region}.amazonaws.com",
    "bedrock-mantle": "https://bedrock-mantle.{region}.api.aws/anthropic",
}
"""As the SDK derives them; a test holds both equal."""
AWS_VARIABLES: dict[str, tuple[str, tuple[str, ...]]] = {
    "aws": ("ANTHROPIC_AWS_BASE_URL", ("ANTHROPIC_AWS_API_KEY",)),
    "bedrock": ("ANTHROPIC_BEDROCK_BASE_URL", ("AWS_BEARER_TOKEN_BEDROCK",)),
    "bedrock-mantle": ("ANTHROPIC_BEDROCK_MANTLE_BASE_URL", ("AWS_BEARER_TOKEN_BEDROCK", "ANTHROPIC_AWS_API_KEY")),
}
"""The variables of the address and of the key, in the SDK's order."""
ENTRA_SCOPE = "https://ai.azure.com/.default"
"""The scope of Foundry (docs, "Claude in Microsoft Foundry", Microsoft Entra authentication)."""
NO_CREDENTIALS_MESSAGES = (
    "Could not resolve AWS credentials",
    "Could not resolve API token",
    "Could not resolve project_id",
)
"""What the SDK (2.11) raises as a bare `RuntimeError` or `ValueError` where there are no credentials."""
CLOUD_LIBRARIES = ("boto3.", "botocore.", "google.auth.", "azure.")


def find_cloud_credential(settings: Settings) -> Credential:
    """The credential for the cloud that is set.

    Raises:
        ConfigurationError: A package, a region, a project or a key is missing, or cannot be sent.
    """
    platform = PLATFORMS[settings.platform]
    match platform.name:
        case "vertex":
            return _google_credential(settings, platform)
        case "foundry":
            return _microsoft_credential(settings, platform)
        case _:
            return _amazon_credential(settings, platform)


def build_cloud_client(credential: Credential, http_client: AsyncClient, *, telemetry: Any) -> AsyncAnthropic:
    """The SDK's client for the cloud; on a thread. It has `messages`, and whatever else the platform does not lack."""
    import anthropic

    platform = credential.platform
    arguments: dict[str, Any] = dict(credential.options)
    if credential.key is not None:
        arguments["api_key"] = credential.key.get_secret_value()
    elif platform.name == "foundry":
        arguments["azure_ad_token_provider"] = _entra_token_provider()
    headers: dict[str, Any] = dict.fromkeys(custom_header_names(), anthropic.omit)
    if headers:
        headers |= _restored_headers(credential)
    if platform.name == "bedrock":
        import_module("anthropic.lib.bedrock._stream_decoder").get_response_stream_shape()  # slow, and kept
    make = cast("Callable[..., AsyncAnthropic]", getattr(anthropic, platform.client_class))
    return make(
        **arguments,
        base_url=credential.base_url,
        max_retries=0,
        default_headers=headers,
        open_telemetry=telemetry,
        http_client=http_client,
    )


def cloud_library_error(error: Exception, credential: Credential) -> CallError | None:
    """The failure behind an exception of a cloud's own library, or of the SDK where it found no credentials."""
    platform = credential.platform
    where = f"{type(error).__module__}."
    if where.startswith(CLOUD_LIBRARIES):
        what = f"The credentials for {platform.title} could not be used ({type(error).__name__})."
        if type(error).__name__ == "TransportError":
            return TemporaryError(f"{what} Try again.", kind="connection")
        return ConfigurationError(f"{what} {HOW_TO_AUTHENTICATE[platform.name]}", kind="authentication")
    if isinstance(error, RuntimeError | ValueError) and str(error).startswith(NO_CREDENTIALS_MESSAGES):
        return ConfigurationError(
            f"There are no credentials for {platform.title}. {HOW_TO_AUTHENTICATE[platform.name]}", kind="no_key"
        )
    return None


def with_platform_wording(failure: CallError, error: Exception, credential: Credential) -> CallError:
    """A refusal of the credentials in words that fit: there may be no key, and no Console of Anthropic's."""
    said = error_classification.api_message_sentence(error)
    match failure.kind:
        case "authentication":
            text = f"{credential.platform.title} does not accept the credentials from {credential.source}.{said}"
        case "permission":
            text = f"The credentials from {credential.source} may not do this on {credential.platform.title}.{said}"
        case _:
            return failure
    return ConfigurationError(text, kind=failure.kind, request_id=failure.request_id, status=failure.status)


def _restored_headers(credential: Credential) -> dict[str, str]:
    """What the SDK sets itself, and what omitting the environment's headers of the same names would take away."""
    if credential.platform.name in {"bedrock", "vertex"}:
        return {}  # there all of it is set later, or stands in the body
    again = {"anthropic-version": API_VERSION}
    if credential.key is not None and credential.platform.name != "foundry":
        again["Authorization"] = f"Bearer {credential.key.get_secret_value()}"
    if workspace := credential.options.get("workspace_id"):
        again["anthropic-workspace-id"] = workspace
    return again


def _amazon_credential(settings: Settings, platform: Platform) -> Credential:
    address, keys = AWS_VARIABLES[platform.name]
    source, key = _key_from_environment(*keys)
    if platform.name == "bedrock" or not key:  # its stream is decoded, and requests are signed, by botocore
        _require_package("boto3", platform)
    region = _aws_region(platform)
    options = {"aws_region": region}
    if platform.name == "aws":
        options["workspace_id"] = _required_name(platform, "workspace", "ANTHROPIC_AWS_WORKSPACE_ID")
    used = next((name for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE") if os.environ.get(name)), "AWS's own chain")
    base_url = _base_url(settings, address, AWS_URLS[platform.name].format(region=region))
    return _build_credential(platform, source or used, key, base_url, options)


def _google_credential(settings: Settings, platform: Platform) -> Credential:
    _require_package("google.auth", platform)
    region = _required_name(platform, "region", "CLOUD_ML_REGION")
    project = _required_name(platform, "project", "ANTHROPIC_VERTEX_PROJECT_ID", "GOOGLE_CLOUD_PROJECT")
    match region:
        case "global":
            host = "aiplatform.googleapis.com"
        case "us" | "eu":
            host = f"aiplatform.{region}.rep.googleapis.com"
        case _:
            host = f"{region}-aiplatform.googleapis.com"
    named = "GOOGLE_APPLICATION_CREDENTIALS"
    source = named if os.environ.get(named) else "Google's application default credentials"
    base_url = _base_url(settings, "ANTHROPIC_VERTEX_BASE_URL", f"https://{host}/v1")
    return _build_credential(platform, source, "", base_url, {"region": region, "project_id": project})


def _microsoft_credential(settings: Settings, platform: Platform) -> Credential:
    source, key = _key_from_environment("ANTHROPIC_FOUNDRY_API_KEY")
    if not key and not _is_installed("azure.identity"):
        raise ConfigurationError(
            f"There is no key for {platform.title}. Set ANTHROPIC_FOUNDRY_API_KEY, or install what signs in with "
            f'Microsoft Entra: pip install "{APP_NAME}[{platform.extra}]".',
            kind="no_key",
        )
    address = "ANTHROPIC_FOUNDRY_BASE_URL"
    default = ""
    if not settings.base_url and not os.environ.get(address, "").strip():
        resource = _required_name(platform, "resource", "ANTHROPIC_FOUNDRY_RESOURCE")
        default = f"https://{resource}.services.ai.azure.com/anthropic"
    return _build_credential(platform, source or "Microsoft Entra", key, _base_url(settings, address, default), {})


def _build_credential(
    platform: Platform, source: str, key: str, base_url: str, options: Mapping[str, str]
) -> Credential:
    from pydantic import SecretStr

    secret = SecretStr(validate_key(key, source)) if key else None
    return Credential(source=source, key=secret, base_url=base_url, platform=platform, options=options)


def _key_from_environment(*names: str) -> tuple[str, str]:
    """The first of these variables that holds a key, and the key; empty where none does."""
    for name in names:
        value = os.environ.get(name, "").strip().strip("\"'")
        if value and Settings.is_placeholder(value):
            raise ConfigurationError(f"{name} holds a placeholder that was never filled in.", kind="no_key")
        if value:
            return name, value
    return "", ""


def _required_name(platform: Platform, label: str, *names: str) -> str:
    """What one of these variables names.

    Raises:
        ConfigurationError: None of them does, or it cannot be part of an address.
    """
    found = next(((name, value) for name in names if (value := os.environ.get(name, "").strip())), None)
    if found is None:
        raise ConfigurationError(
            f"{platform.title} needs a {label}: set {' or '.join(names)} in this server's environment.", kind="platform"
        )
    if not ADDRESS_PART.match(found[1]):
        raise ConfigurationError(f"{found[0]} does not hold the name of a {label}.", kind="platform")
    return found[1]


def _aws_region(platform: Platform) -> str:
    """The region of the environment, else of AWS's own configuration, which only boto3 reads."""
    variables = ("AWS_REGION", "AWS_DEFAULT_REGION")
    if not any(os.environ.get(name, "").strip() for name in variables) and _is_installed("boto3"):
        try:
            configured = cast("Any", import_module("boto3")).Session().region_name
        except Exception as error:  # a profile that there is not
            failure = cloud_library_error(error, Credential(source="AWS_PROFILE", platform=platform))
            if failure is None:
                raise
            raise failure from None
        if isinstance(configured, str) and ADDRESS_PART.match(configured):
            return configured
    return _required_name(platform, "region", *variables)


def _base_url(settings: Settings, variable: str, default: str) -> str:
    if settings.base_url:
        return validate_url(settings.base_url, "MCP_CLAUDE_BASE_URL")
    given = os.environ.get(variable, "").strip()
    return validate_url(given, variable) if given else default


def _require_package(package: str, platform: Platform) -> None:
    if not _is_installed(package):
        raise ConfigurationError(
            f'{platform.title} needs a package that is not installed: pip install "{APP_NAME}[{platform.extra}]".',
            kind="missing_extra",
        )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):  # its parent is not there; or it was put out of reach
        return False


def _entra_token_provider() -> Callable[[], Awaitable[str]]:
    """Gives a token for each request, from wherever Microsoft's own chain finds one. Theirs blocks, so on a thread."""
    identity = cast("Any", import_module("azure.identity"))
    token: Callable[[], str] = identity.get_bearer_token_provider(identity.DefaultAzureCredential(), ENTRA_SCOPE)

    async def provide() -> str:
        return await anyio.to_thread.run_sync(token, abandon_on_cancel=True)

    return provide
