"""Token counts and the prompt cache's account.

A token is four characters, rounded up per text: deterministic and close enough to English. An image counts 1,500
tokens, a base64 document one token per 40 characters. The cache keeps the API's rules: a prefix is tools, then system,
then messages; it is written up to each `cache_control` and read back while its time to live (5 minutes, or 1 hour)
has not passed since it was last used; prefixes shorter than the model's minimum are not cached; a breakpoint finds
entries up to 20 blocks before it (platform.claude.com, "Prompt caching").
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.simulator.json_body import blocks, items, obj, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_server_claude.simulator.json_body import Json, Object
    from mcp_server_claude.simulator.model_catalog import Model

CHARS_PER_TOKEN = 4
IMAGE_TOKENS = 1500
DOCUMENT_CHARS_PER_TOKEN = 40
MESSAGE_TOKENS = 3
LOOKBACK = 20
TTL_S = {"5m": 300.0, "1h": 3600.0}


def tokens(chars: int) -> int:
    """The tokens of that many characters."""
    return -(-chars // CHARS_PER_TOKEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One cacheable piece of a request: a tool, a system block or a content block."""

    digest: bytes
    tokens: int
    ttl: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What a request's input comes to, in tokens; the four add up to the whole prompt."""

    fresh: int
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def total(self) -> int:
        return self.fresh + self.read + self.written_5m + self.written_1h

    def as_json(self) -> Object:
        """The input's part of `usage`, as `message_start` and a whole message tell it."""
        return {
            "input_tokens": self.fresh,
            "cache_creation_input_tokens": self.written_5m + self.written_1h,
            "cache_read_input_tokens": self.read,
        }

    def creation(self) -> Object:
        """`usage.cache_creation`."""
        return {"ephemeral_5m_input_tokens": self.written_5m, "ephemeral_1h_input_tokens": self.written_1h}


def segments(body: Object) -> list[Segment]:
    """The request in the order in which the cache sees it: tools, system, messages."""
    pieces: list[tuple[str, Object]] = [("tool", obj(tool)) for tool in items(body.get("tools"))]
    pieces += [("system", block) for block in blocks(body.get("system"))]
    for message in map(obj, items(body.get("messages"))):
        role = text(message.get("role"))
        found = blocks(message.get("content"))
        pieces += [(f"{role}{MESSAGE_TOKENS if n == 0 else 0}", block) for n, block in enumerate(found)]
    automatic = obj(body.get("cache_control"))
    last = len(pieces) - 1
    return [
        _segment(role, block, obj(block.get("cache_control")) or (automatic if n == last else {}))
        for n, (role, block) in enumerate(pieces)
    ]


def count(body: Object) -> int:
    """The request's input tokens, as `count_tokens` tells them."""
    return sum(segment.tokens for segment in segments(body))


class PromptCache:
    """Which prefixes are warm, for which model and key. Times in seconds of `clock`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._warm: dict[bytes, tuple[float, float]] = {}

    def clear(self) -> None:
        """Forget every prefix."""
        self._warm.clear()

    def account(self, body: Object, model: Model, key: str) -> Input:
        """What this request reads and writes; its prefixes are warm from now on."""
        parts = segments(body)
        total = sum(part.tokens for part in parts)
        ends = [n for n, part in enumerate(parts) if part.ttl]
        if not ends:
            return Input(fresh=total)
        running = hashlib.sha256(f"{model.id}\0{key}".encode())
        prefixes: list[tuple[bytes, int]] = []
        length = 0
        for part in parts[: ends[-1] + 1]:
            running.update(part.digest)
            length += part.tokens
            prefixes.append((running.digest(), length))
        read = self._read(prefixes, ends)
        written = {"5m": 0, "1h": 0}
        reached = read
        for end in ends:
            digest, length = prefixes[end]
            if length >= model.min_cacheable:
                ttl = parts[end].ttl
                self._warm[digest] = (self._clock() + TTL_S[ttl], TTL_S[ttl])
                written[ttl] += max(0, length - reached)
                reached = max(reached, length)
        return Input(fresh=total - reached, read=read, written_5m=written["5m"], written_1h=written["1h"])

    def _read(self, prefixes: list[tuple[bytes, int]], ends: list[int]) -> int:
        now = self._clock()
        seen = {n for end in ends for n in range(max(0, end - LOOKBACK), end + 1)}
        for n in sorted(seen, reverse=True):
            digest, length = prefixes[n]
            until, ttl = self._warm.get(digest, (0.0, 0.0))
            if until > now:
                self._warm[digest] = (now + ttl, ttl)
                return length
        return 0


def _segment(role: str, block: Object, control: Object) -> Segment:
    bare = {key: value for key, value in block.items() if key != "cache_control"}
    told = json.dumps([role, bare], sort_keys=True).encode()
    ttl = (text(control.get("ttl")) or "5m") if control else ""
    extra = MESSAGE_TOKENS if role.endswith(str(MESSAGE_TOKENS)) else 0
    return Segment(digest=hashlib.sha256(told).digest(), tokens=_weight(bare) + extra, ttl=ttl if ttl in TTL_S else "")


def _weight(block: Json) -> int:
    """The tokens of one block: its text, its image, its document, or its JSON."""
    block = obj(block)
    match block.get("type"):
        case "text":
            return tokens(len(text(block.get("text"))))
        case "image":
            return IMAGE_TOKENS
        case "document":
            source = obj(block.get("source"))
            data = text(source.get("data"))
            per_token = DOCUMENT_CHARS_PER_TOKEN if source.get("type") == "base64" else CHARS_PER_TOKEN
            return -(-len(data) // per_token) or IMAGE_TOKENS
        case "tool_result":
            return sum(map(_weight, blocks(block.get("content")))) + MESSAGE_TOKENS
        case _:
            return tokens(len(json.dumps(block, ensure_ascii=False)))
