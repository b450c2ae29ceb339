"""Check of the API: free requests that show whether Claude can be reached with the configured credentials."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import number_formatting
from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.anthropic_api.error_classification import to_call_error
from mcp_server_claude.anthropic_api.models import ModelCatalog, bundled_catalog, fetch_model_list, parse_model_list
from mcp_server_claude.anthropic_api.platforms import PLATFORMS
from mcp_server_claude.cli.doctor.finding import CHECK_TIMEOUT_S, HINTS_BY_KIND, NETWORK_HINT, Finding
from mcp_server_claude.errors import CallError, TemporaryError

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.credentials import Credential
    from mcp_server_claude.settings import Settings


async def check_api(settings: Settings, catalog: ModelCatalog) -> tuple[Finding, ModelCatalog]:
    """Check whether the API answers `GET /v1/models` with this key, and what it lists; else `catalog`."""
    claude = ClaudeClient(settings)
    if "models" in claude.platform.unsupported:
        return await _check_by_counting(claude, settings, catalog), catalog
    failure: CallError | None = None
    entries: list[object] = []
    began = time.monotonic()
    try:
        client = await claude.get_client()
        began = time.monotonic()
        with anyio.fail_after(CHECK_TIMEOUT_S):
            entries = await fetch_model_list(client)
    except TimeoutError:
        failure = TemporaryError(
            f"There was no answer within {number_formatting.format_seconds(CHECK_TIMEOUT_S)}.", kind="timeout"
        )
    except TemporaryError as unavailable:
        # It names only the SDK's exception; `to_call_error` classifies it.
        cause = unavailable.__context__
        failure = (to_call_error(cause) if isinstance(cause, Exception) else None) or unavailable
    except Exception as error:  # noqa: BLE001 - the SDK's text may hold a key, so only its class is reported
        failure = to_call_error(error) or TemporaryError(f"The SDK failed ({type(error).__name__}).", kind="connection")
    listed = parse_model_list(entries)
    if not listed and (failure is None or failure.kind in {"not_found", "base_url"}):
        failure = await _check_route(claude)
    await claude.close()
    took = number_formatting.format_seconds(time.monotonic() - began)
    if listed:
        fetched = ModelCatalog.newest_first(listed, "api", f"{datetime.now(UTC):%Y-%m-%d}")
        models = number_formatting.format_count(len(fetched.callable_models), "model")
        return Finding(name="API", ok=True, text=f"accepted the key and listed {models} in {took}"), fetched
    if failure is None:
        text = (
            f"answered in {took}, but it has no list of models, as gateways do: whether it accepts the key is unknown."
        )
        return Finding(
            name="API", ok=None, text=text, hint="Ask a question to check it; ids of models are sent as given."
        ), catalog
    hint = HINTS_BY_KIND.get(failure.kind, NETWORK_HINT)
    return Finding(name="API", ok=False, text=str(failure), hint=hint), catalog


async def _check_route(claude: ClaudeClient) -> CallError | None:
    """The error of an empty request to the Messages API. A gateway without a list of models may still have that route.

    None if the route exists, whether or not it takes the key.
    """
    try:
        with anyio.fail_after(CHECK_TIMEOUT_S):
            await claude.check_messages_route()
    except TimeoutError:
        seconds = number_formatting.format_seconds(CHECK_TIMEOUT_S)
        return TemporaryError(f"There was no answer within {seconds}.", kind="timeout")
    except CallError as error:
        return error
    return None


async def _check_by_counting(claude: ClaudeClient, settings: Settings, catalog: ModelCatalog) -> Finding:
    """Check whether a platform without a list of models takes the credentials, by a free token count."""
    hint = "Ask it something."
    began = time.monotonic()
    try:
        await claude.get_client()
        if "count_tokens" in claude.platform.unsupported:
            text = f"{claude.platform.title} offers no free request, so the credentials could not be checked."
            return Finding(name="API", ok=None, text=text, hint=hint)
        model = catalog.resolve_model(settings.model, default="sonnet").id
        with anyio.fail_after(CHECK_TIMEOUT_S):
            body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": "x"}]}
            counted = await claude.count_tokens(body, estimate_on_error=False)
    except TimeoutError:
        text = f"There was no answer within {number_formatting.format_seconds(CHECK_TIMEOUT_S)}."
        return Finding(name="API", ok=False, text=text, hint=NETWORK_HINT)
    except CallError as failure:
        theirs = failure.kind in {"authentication", "permission", "billing"}  # in no Console of Anthropic's
        hint = HINTS_BY_KIND["platform"] if theirs else HINTS_BY_KIND.get(failure.kind, NETWORK_HINT)
        return Finding(name="API", ok=False, text=str(failure), hint=hint)
    finally:
        await claude.close()
    if not counted.exact:
        text = f"{claude.platform.title} answered without a token count, so it is unknown whether calls work."
        return Finding(name="API", ok=None, text=text, hint=hint)
    took = number_formatting.format_seconds(time.monotonic() - began)
    return Finding(name="API", ok=True, text=f"accepted the credentials and counted the tokens of a word in {took}")


def platform_catalog(credential: Credential | None) -> ModelCatalog:
    """The models as our data file has them, under the names of the platform."""
    platform = PLATFORMS["anthropic" if credential is None else credential.platform_name]
    if credential is None or "models" not in platform.unsupported:
        return bundled_catalog()
    region = credential.region
    return bundled_catalog().for_platform(
        lambda model: platform.platform_model_id(model, region), platform.unsupported_for
    )
