"""Server-side fallbacks, and the credit for a retry on another model after a refusal.

Both are betas. Sources: platform.claude.com/docs/en/build-with-claude/refusals-and-fallback and …/fallback-credit (read
in copies of July to September 2026), `BetaFallbacksParam`, `BetaRefusalStopDetails` and `BetaFallbackCreditTokenParam`
(SDK 2.14.0, November 2026). docs/simulator.md lists what is assumed where the documentation says nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mcp_server_claude.simulator import model_catalog
from mcp_server_claude.simulator.api_errors import rejection
from mcp_server_claude.simulator.json_body import as_integer, as_list, as_object, as_text

if TYPE_CHECKING:
    from mcp_server_claude.simulator.catalog_model import CatalogModel
    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.token_counting import InputUsage

FALLBACK_BETA = "server-side-fallback-2026-07-01"
CREDIT_BETA = "fallback-credit-2026-07-01"
MAX_FALLBACKS = 3
CREDIT_TTL_S = 300
MATCHED_FIELDS = (
    "system", "messages", "tools", "tool_choice", "thinking", "cache_control", "output_config", "mcp_servers",
    "context_management", "container",
)  # fmt: skip
"""The fields that must be those of the refused request."""
EXEMPT_BETAS = ("server-side-fallback-", "fallback-credit-")
SIGNING_KEY = b"mcp-server-claude simulator, fallback credit"
TAG_CHARS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackCredit:
    """The credit of one refusal: the account and request that were refused, and the tokens that were cached for it.

    `refused_at` is a time in unix seconds.
    """

    account: str
    request_digest: str
    model: str
    cached_tokens: int
    refused_at: float

    def token(self) -> str:
        """The token as it stands in `stop_details`."""
        values = [getattr(self, name) for name in self.__slots__]
        payload = urlsafe_b64encode(json.dumps(values).encode()).decode()
        return f"{_tag(payload)}.{payload}"


def allowed_fallbacks(model: CatalogModel) -> tuple[str, ...]:
    """The models that may answer where this one declines (assumed; the Models API lists them for an account)."""
    if model.line in {"fable", "mythos"}:
        return ("claude-opus-5-5", "claude-opus-5", "claude-opus-4-8")
    return ("claude-opus-4-8",) if model.id in {"claude-opus-5-5", "claude-opus-5", "claude-sonnet-5-5"} else ()


def check_fallbacks(body: Object, model: CatalogModel, betas: str) -> None:
    """Pass a request whose `fallbacks` the model takes.

    Raises:
        RequestRejectedError: The beta header is missing, or a fallback is not allowed.
    """
    wanted = body.get("fallbacks")
    if wanted is None:
        return
    if FALLBACK_BETA not in betas:
        raise rejection("fallbacks: Extra inputs are not permitted")
    if body.get("fallback_credit_token") is not None:
        raise rejection("fallback_credit_token: cannot be combined with `fallbacks`")
    if wanted == "default":
        return
    names = [as_text(as_object(each).get("model")) for each in as_list(wanted)]
    if not 0 < len(names) <= MAX_FALLBACKS:
        raise rejection(f"fallbacks: List should have 1 to {MAX_FALLBACKS} items")
    for place, name in enumerate(names):
        if name not in allowed_fallbacks(model):
            raise rejection(f"fallbacks.{place}.model: '{name}' is not an allowed fallback model of '{model.id}'.")


def requested_fallback(body: Object, model: CatalogModel, directed: str | None) -> str:
    """The model that answers where this one declines; empty where none does. `directed` is what a prompt asks for."""
    if directed:
        return directed
    wanted = body.get("fallbacks")
    if wanted == "default":
        return next(iter(allowed_fallbacks(model)), "")
    return next((as_text(as_object(each).get("model")) for each in as_list(wanted)), "")


def credit_token(body: Object, model: CatalogModel, betas: str, account: str, used: InputUsage) -> str | None:
    """The token of a refusal; None without the beta header, or for a model that nobody may answer for."""
    if CREDIT_BETA not in betas or not allowed_fallbacks(model):
        return None
    return FallbackCredit(
        account=account,
        request_digest=_request_digest(body, betas),
        model=model.id,
        cached_tokens=used.total - used.uncached,
        refused_at=time.time(),
    ).token()


def redeem_credit(body: Object, model: CatalogModel, betas: str, account: str) -> FallbackCredit | None:
    """The credit that a request presents; None where it presents none.

    Raises:
        RequestRejectedError: It cannot be redeemed by this request.
    """
    given = body.get("fallback_credit_token")
    if given is None:
        return None
    if CREDIT_BETA not in betas:
        raise rejection("fallback_credit_token: Extra inputs are not permitted")
    credit = _read_token(given if isinstance(given, str) else as_text(as_object(given).get("token")))
    refused = None if credit is None else model_catalog.find_model(credit.model)
    if credit is None or refused is None:
        raise rejection("fallback_credit_token: the token is malformed")
    if credit.account != account:
        raise rejection("fallback_credit_token: the token was issued to another workspace")
    if time.time() > credit.refused_at + CREDIT_TTL_S:
        raise rejection("fallback_credit_token: the token has expired")
    if model.id not in allowed_fallbacks(refused):
        raise rejection(f"fallback_credit_token: '{model.id}' is not a permitted fallback of '{credit.model}'")
    if credit.request_digest not in {_request_digest(body, betas), _request_digest(_without_last_answer(body), betas)}:
        raise rejection("fallback_credit_token: the request body does not match the refused request")
    return credit


def with_credit(used: InputUsage, credit: FallbackCredit | None) -> InputUsage:
    """The input with the credit applied: what was cached for the refused model is read instead of written."""
    if credit is None:
        return used
    shifted_5m = min(used.cache_write_5m, credit.cached_tokens)
    shifted_1h = min(used.cache_write_1h, credit.cached_tokens - shifted_5m)
    return replace(
        used,
        cache_read=used.cache_read + shifted_5m + shifted_1h,
        cache_write_5m=used.cache_write_5m - shifted_5m,
        cache_write_1h=used.cache_write_1h - shifted_1h,
    )


def _without_last_answer(body: Object) -> Object:
    messages = as_list(body.get("messages"))
    if messages and as_object(messages[-1]).get("role") == "assistant":
        return {**body, "messages": messages[:-1]}
    return body


def _request_digest(body: Object, betas: str) -> str:
    """The digest of what shapes the prompt, and of the beta headers that must be the same."""
    matched: Object = {name: body[name] for name in MATCHED_FIELDS if name in body}
    names: list[Json] = [name for name in sorted(betas.split(",")) if name and not name.startswith(EXEMPT_BETAS)]
    return hashlib.sha256(json.dumps([matched, names], sort_keys=True).encode()).hexdigest()


def _read_token(token: str) -> FallbackCredit | None:
    tag, _, payload = token.partition(".")
    if not payload or not hmac.compare_digest(tag, _tag(payload)):
        return None
    values: list[Json] = json.loads(urlsafe_b64decode(payload))
    account, digest, model, cached, refused_at = values
    return FallbackCredit(
        account=as_text(account),
        request_digest=as_text(digest),
        model=as_text(model),
        cached_tokens=as_integer(cached, 0),
        refused_at=refused_at if isinstance(refused_at, float) else 0.0,
    )


def _tag(payload: str) -> str:
    return hmac.new(SIGNING_KEY, payload.encode(), "sha256").hexdigest()[:TAG_CHARS]
