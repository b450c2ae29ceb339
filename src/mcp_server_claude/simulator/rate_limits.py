"""The rate limits: a token bucket for requests, input and output of each account and class of models, and its headers.

Source: platform.claude.com/docs/en/api/rate-limits, as documented by November 2026. A bucket is refilled continuously;
`…-reset` is when it is full again; tokens in headers are rounded to thousands; what is read from the prompt cache does
not count; `anthropic-ratelimit-tokens-*` shows the tightest of the token limits. Fast mode has buckets of its own.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mcp_server_claude.simulator.api_errors import ApiError, RequestRejectedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_server_claude.simulator.catalog_model import CatalogModel
    from mcp_server_claude.simulator.token_counting import InputUsage

MINUTE_S = 60.0
HEADER_TOKEN_STEP = 1000
LIMIT_NAMES = {
    "requests": "requests per minute",
    "input-tokens": "input tokens per minute",
    "output-tokens": "output tokens per minute",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """The limits of every class of models; `enforced` answers 429 to what exceeds them, otherwise only the headers
    report them.
    """

    requests_per_minute: int = 4_000
    input_tokens_per_minute: int = 2_000_000
    output_tokens_per_minute: int = 800_000
    enforced: bool = False


class TokenBucket:
    """A bucket of `capacity`, refilled within a minute; times are seconds of `clock`."""

    def __init__(self, capacity: int, clock: Callable[[], float]) -> None:
        self.capacity = capacity
        self._clock = clock
        self._level = float(capacity)
        self._filled_at = clock()

    def remaining(self) -> float:
        """The content, from 0 to `capacity`."""
        now = self._clock()
        self._level = min(self.capacity, self._level + (now - self._filled_at) * self.capacity / MINUTE_S)
        self._filled_at = now
        return max(0.0, self._level)

    def take(self, amount: int) -> None:
        """Take from the bucket, below zero too."""
        self.remaining()
        self._level -= amount

    def wait_s(self, amount: float) -> float:
        """Seconds until the bucket holds `amount`; 0 when it does."""
        self.remaining()
        return max(0.0, (min(amount, self.capacity) - self._level) * MINUTE_S / self.capacity)


class RateLimiter:
    """The buckets of every account and class of models."""

    def __init__(self, limits: RateLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[tuple[str, str, str], TokenBucket] = {}

    def clear(self) -> None:
        """Fill every bucket."""
        self._buckets.clear()

    def charge_request(self, account: str, model: CatalogModel, *, is_fast: bool = False) -> None:
        """Count a request.

        Raises:
            RequestRejectedError: A limit is reached and enforced; the error has a `retry-after`.
        """
        pool = _pool(model, is_fast=is_fast)
        if self._limits.enforced:
            for name, needed in (("requests", 1), ("input-tokens", 1), ("output-tokens", 1)):
                wait_s = self._bucket(account, pool, name).wait_s(needed)
                if wait_s > 0:
                    raise RequestRejectedError(_rate_limit_error(self._capacity(name), name, model, wait_s))
        self._bucket(account, pool, "requests").take(1)

    def charge(
        self, account: str, model: CatalogModel, used: InputUsage, output_tokens: int, *, is_fast: bool = False
    ) -> None:
        """Count the tokens of a request, without those read from the prompt cache."""
        pool = _pool(model, is_fast=is_fast)
        self._bucket(account, pool, "input-tokens").take(used.total - used.cache_read)
        self._bucket(account, pool, "output-tokens").take(output_tokens)

    def headers(self, account: str, model: CatalogModel, *, is_fast: bool = False) -> dict[str, str]:
        """The headers of a response to this account about this model."""
        pool = _pool(model, is_fast=is_fast)
        requests = self._bucket(account, pool, "requests")
        tokens = {name: self._bucket(account, pool, name) for name in ("input-tokens", "output-tokens")}
        tightest = min(tokens.values(), key=lambda bucket: bucket.remaining() / bucket.capacity)
        found = _bucket_headers("anthropic-ratelimit-requests", requests, step=1)
        found |= _bucket_headers("anthropic-ratelimit-tokens", tightest, step=HEADER_TOKEN_STEP)
        for name, bucket in tokens.items():
            found |= _bucket_headers(f"anthropic-ratelimit-{name}", bucket, step=HEADER_TOKEN_STEP)
            if is_fast:
                found |= _bucket_headers(f"anthropic-fast-{name}", bucket, step=HEADER_TOKEN_STEP)
        return found

    def _bucket(self, account: str, pool: str, name: str) -> TokenBucket:
        key = (account, pool, name)
        if key not in self._buckets:
            self._buckets[key] = TokenBucket(self._capacity(name), self._clock)
        return self._buckets[key]

    def _capacity(self, name: str) -> int:
        match name:
            case "requests":
                return self._limits.requests_per_minute
            case "input-tokens":
                return self._limits.input_tokens_per_minute
            case _:
                return self._limits.output_tokens_per_minute


def _pool(model: CatalogModel, *, is_fast: bool) -> str:
    return f"{model.rate_limit_class} fast" if is_fast else model.rate_limit_class


def _bucket_headers(prefix: str, bucket: TokenBucket, *, step: int) -> dict[str, str]:
    remaining = bucket.remaining()
    full_in_s = (bucket.capacity - remaining) * MINUTE_S / bucket.capacity
    reset = datetime.now(UTC) + timedelta(seconds=math.ceil(full_in_s))
    return {
        f"{prefix}-limit": str(bucket.capacity),
        f"{prefix}-remaining": str(int(remaining // step) * step),
        f"{prefix}-reset": f"{reset:%Y-%m-%dT%H:%M:%SZ}",
    }


def _rate_limit_error(capacity: int, name: str, model: CatalogModel, wait_s: float) -> ApiError:
    return ApiError(
        status=429,
        message=f"This request would exceed your organization's rate limit of {capacity:,} {LIMIT_NAMES[name]} "
        f"(model: {model.id}).",
        retry_after_s=max(1, math.ceil(wait_s)),
    )
