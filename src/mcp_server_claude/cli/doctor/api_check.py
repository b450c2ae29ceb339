"""Whether Claude can be reached with the credentials at hand, found out by what costs nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from mcp_server_claude import number_formatting
from mcp_server_claude.anthropic_api import Claude
from mcp_server_claude.anthropic_api.error_classification import translate
from mcp_server_claude.anthropic_api.models import Catalogue, fetch_with, ours, parse
from mcp_server_claude.cli.doctor.finding import HINTS, NETWORK, PATIENCE_S, Finding
from mcp_server_claude.errors import Failure, Unavailable

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api import Credential
    from mcp_server_claude.settings import Settings


async def api(settings: Settings, own: Catalogue) -> tuple[Finding, Catalogue]:
    """Whether the API answers `GET /v1/models` with this key, and what it lists; else our `own` list."""
    claude = Claude(settings)
    if "models" in claude.platform.lacks:
        return await _counting(claude, settings, own), own
    failure: Failure | None = None
    entries: list[object] = []
    began = time.monotonic()
    try:
        client = await claude.ready()
        began = time.monotonic()
        with anyio.fail_after(PATIENCE_S):
            entries = await fetch_with(client)
    except TimeoutError:
        failure = Unavailable(f"There was no answer within {number_formatting.seconds(PATIENCE_S)}.", kind="timeout")
    except Unavailable as unavailable:
        # It names only the SDK's exception; which of them it is and what it means, `faults` knows.
        cause = unavailable.__context__
        failure = (translate(cause) if isinstance(cause, Exception) else None) or unavailable
    except Exception as error:  # noqa: BLE001 - a door: the SDK's text may hold a key, so only its class is told
        failure = translate(error) or Unavailable(f"The SDK failed ({type(error).__name__}).", kind="connection")
    finally:
        await claude.close()
    took = number_formatting.seconds(time.monotonic() - began)
    listed = parse(entries)
    if listed:
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        text = f"accepted the key and listed {len(listed)} models in {took}"
        return Finding(name="API", ok=True, text=text), Catalogue.of(listed, "api", today)
    if failure is None or failure.kind == "not_found":
        text = f"answered in {took}, but it has no list of models, as gateways do: whether it takes the key is unknown."
        return Finding(name="API", ok=None, text=text, hint="Ask it something; ids of models are sent as given."), own
    hint = HINTS.get(failure.kind, NETWORK)
    return Finding(name="API", ok=False, text=str(failure), hint=hint), own


async def _counting(claude: Claude, settings: Settings, own: Catalogue) -> Finding:
    """Whether a platform without a list of models takes the credentials: it counts a word's tokens, for nothing."""
    asked = "Ask it something."
    began = time.monotonic()
    try:
        await claude.ready()
        if "count_tokens" in claude.platform.lacks:
            text = f"{claude.platform.title} does nothing that is free: whether it takes the credentials is unknown."
            return Finding(name="API", ok=None, text=text, hint=asked)
        model = own.resolve(settings.model, default="sonnet").id
        with anyio.fail_after(PATIENCE_S):
            body: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": "x"}]}
            counted = await claude.counted(body, guess=False)
    except TimeoutError:
        text = f"There was no answer within {number_formatting.seconds(PATIENCE_S)}."
        return Finding(name="API", ok=False, text=text, hint=NETWORK)
    except Failure as failure:
        theirs = failure.kind in {"authentication", "permission", "billing"}  # in no Console of Anthropic's
        hint = HINTS["platform"] if theirs else HINTS.get(failure.kind, NETWORK)
        return Finding(name="API", ok=False, text=str(failure), hint=hint)
    finally:
        await claude.close()
    if not counted.exact:
        text = f"{claude.platform.title} answered, but with no count of tokens: whether it can be asked is unknown."
        return Finding(name="API", ok=None, text=text, hint=asked)
    took = number_formatting.seconds(time.monotonic() - began)
    return Finding(name="API", ok=True, text=f"took the credentials and counted a word's tokens in {took}")


def own(credential: Credential | None) -> Catalogue:
    """The models as our data file has them, under the names of the platform."""
    if credential is None or "models" not in credential.platform.lacks:
        return ours()
    platform, region = credential.platform, credential.region
    return ours().on(lambda model: platform.call_it(model, region), platform.missing)
