"""Token counts and the prompt cache's account.

A token is four characters, rounded up per text: deterministic and close enough to English. An image counts by its size
where its bytes are known, else 1,500 tokens; a base64 document one token per 40 characters. The cache keeps the API's
rules: a prefix is tools, then system, then messages; it is written up to each `cache_control` and read back while its
time to live (5 minutes, or 1 hour) has not passed since it was last used; prefixes shorter than the model's minimum are
not cached; a breakpoint finds entries at 20 positions, itself the first (platform.claude.com, "Prompt caching").
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.simulator.compaction import without_compacted
from mcp_server_claude.simulator.json_body import as_list, as_object, as_text, content_blocks
from mcp_server_claude.simulator.thinking_binding import read_signature
from mcp_server_claude.simulator.tool_changes import offered_tools, prefix_tools

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from mcp_server_claude.simulator.catalog_model import CatalogModel
    from mcp_server_claude.simulator.json_body import Json, Object

    ImageTokens: TypeAlias = Callable[[Object], int]
    """The tokens of an image block."""

CHARS_PER_TOKEN = 4
IMAGE_TOKENS = 1500
DOCUMENT_CHARS_PER_TOKEN = 40
MESSAGE_TOKENS = 3
LOOKBACK_POSITIONS = 20
"""Positions that a breakpoint looks at, itself counted as the first."""
CACHE_TTL_S = {"5m": 300.0, "1h": 3600.0}


def token_count(char_count: int) -> int:
    """The tokens of that many characters."""
    return -(-char_count // CHARS_PER_TOKEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSegment:
    """One cacheable piece of a request: a tool, a system block or a content block."""

    digest: bytes
    tokens: int
    ttl: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InputUsage:
    """The input of a request in tokens; the four parts add up to the whole prompt."""

    uncached: int
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0

    @property
    def total(self) -> int:
        return self.uncached + self.cache_read + self.cache_write_5m + self.cache_write_1h

    def usage_fields(self) -> Object:
        """The input's part of `usage`, as in `message_start` and in a complete message."""
        return {
            "input_tokens": self.uncached,
            "cache_creation_input_tokens": self.cache_write_5m + self.cache_write_1h,
            "cache_read_input_tokens": self.cache_read,
        }

    def cache_creation(self) -> Object:
        """`usage.cache_creation`."""
        return {"ephemeral_5m_input_tokens": self.cache_write_5m, "ephemeral_1h_input_tokens": self.cache_write_1h}


def flat_image_tokens(block: Object) -> int:
    """The tokens of an image whose size is unknown."""
    del block
    return IMAGE_TOKENS


def prompt_segments(body: Object, image_tokens: ImageTokens = flat_image_tokens) -> list[PromptSegment]:
    """The request in the order in which the cache sees it: tools, system, messages."""
    messages = as_list(body.get("messages"))
    pieces: list[tuple[str, Object]] = [("tool", tool) for tool in prefix_tools(body, messages)]
    if not pieces and offered_tools(body):
        pieces.append(("tool", {}))  # the first tool that a message adds changes the beginning of the prompt
    pieces += [("system", block) for block in content_blocks(body.get("system"))]
    for message in map(as_object, without_compacted(messages)):
        role = as_text(message.get("role"))
        found = content_blocks(message.get("content"))
        pieces += [(f"{role}{MESSAGE_TOKENS if n == 0 else 0}", block) for n, block in enumerate(found)]
    automatic = as_object(body.get("cache_control"))
    last = len(pieces) - 1
    return [
        _prompt_segment(
            role, block, as_object(block.get("cache_control")) or (automatic if n == last else {}), image_tokens
        )
        for n, (role, block) in enumerate(pieces)
    ]


def count_input_tokens(body: Object, image_tokens: ImageTokens = flat_image_tokens) -> int:
    """The request's input tokens, as `count_tokens` returns them."""
    return sum(segment.tokens for segment in prompt_segments(body, image_tokens))


class PromptCache:
    """The cached prefixes of each model and key. Times are seconds of `clock`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[bytes, tuple[float, float]] = {}

    def clear(self) -> None:
        """Forget every prefix."""
        self._entries.clear()

    def charge(
        self, body: Object, model: CatalogModel, key: str, image_tokens: ImageTokens = flat_image_tokens
    ) -> InputUsage:
        """Charge a request: the tokens that it reads and writes. Its prefixes are cached from now on."""
        parts = prompt_segments(body, image_tokens)
        total = sum(part.tokens for part in parts)
        ends = [n for n, part in enumerate(parts) if part.ttl]
        if not ends:
            return InputUsage(uncached=total)
        running = hashlib.sha256(f"{model.id}\0{key}".encode())
        prefixes: list[tuple[bytes, int]] = []
        length = 0
        for part in parts[: ends[-1] + 1]:
            running.update(part.digest)
            length += part.tokens
            prefixes.append((running.digest(), length))
        read = self._longest_cached_prefix(prefixes, ends)
        written = {"5m": 0, "1h": 0}
        reached = read
        for end in ends:
            digest, length = prefixes[end]
            if length >= model.min_cacheable_tokens:
                ttl = parts[end].ttl
                self._entries[digest] = (self._clock() + CACHE_TTL_S[ttl], CACHE_TTL_S[ttl])
                written[ttl] += max(0, length - reached)
                reached = max(reached, length)
        return InputUsage(
            uncached=total - reached, cache_read=read, cache_write_5m=written["5m"], cache_write_1h=written["1h"]
        )

    def _longest_cached_prefix(self, prefixes: list[tuple[bytes, int]], ends: list[int]) -> int:
        now = self._clock()
        seen = {n for end in ends for n in range(max(0, end - LOOKBACK_POSITIONS + 1), end + 1)}
        for n in sorted(seen, reverse=True):
            digest, length = prefixes[n]
            until, ttl = self._entries.get(digest, (0.0, 0.0))
            if until > now:
                self._entries[digest] = (now + ttl, ttl)
                return length
        return 0


def _prompt_segment(role: str, block: Object, control: Object, image_tokens: ImageTokens) -> PromptSegment:
    bare = {key: value for key, value in block.items() if key != "cache_control"}
    content = json.dumps([role, bare], sort_keys=True).encode()
    ttl = (as_text(control.get("ttl")) or "5m") if control else ""
    extra = MESSAGE_TOKENS if role.endswith(str(MESSAGE_TOKENS)) else 0
    return PromptSegment(
        digest=hashlib.sha256(content).digest(),
        tokens=_block_tokens(bare, image_tokens) + extra,
        ttl=ttl if ttl in CACHE_TTL_S else "",
    )


def _block_tokens(block: Json, image_tokens: ImageTokens) -> int:
    """The tokens of one block: its text, its image, its document, or its JSON."""
    block = as_object(block)
    match block.get("type"):
        case "thinking" | "redacted_thinking":
            signature = read_signature(as_text(block.get("signature") or block.get("data")))
            return signature.tokens if signature else token_count(len(json.dumps(block, ensure_ascii=False)))
        case "text":
            return token_count(len(as_text(block.get("text"))))
        case "image":
            return image_tokens(block)
        case "document":
            source = as_object(block.get("source"))
            data = as_text(source.get("data"))
            per_token = DOCUMENT_CHARS_PER_TOKEN if source.get("type") == "base64" else CHARS_PER_TOKEN
            return -(-len(data) // per_token) or IMAGE_TOKENS
        case "tool_result":
            parts = content_blocks(block.get("content"))
            return sum(_block_tokens(part, image_tokens) for part in parts) + MESSAGE_TOKENS
        case _:
            return token_count(len(json.dumps(block, ensure_ascii=False)))
