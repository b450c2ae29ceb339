"""Signatures of thinking blocks, and the checks of blocks that come back (preserved thinking).

A block is bound to three things: to what came before it (`system`, the set of `tools` and every earlier message), to
the models that may read it, and for some models to the account. Each block also records the thinking block before it,
so that a gap is found. After a summary (compaction), the prefix begins with it. Sources:
platform.claude.com/docs/en/build-with-claude/preserved-thinking and its pages "prefix-checks" and
"fix-bound-to-a-different-conversation" (November 2026), and the page "Preserved thinking" of the Amazon Bedrock user
guide (November 2026).

The signature carries all of it, so that a simulator that has been restarted still reads it. docs/simulator.md lists
what is assumed where the documentation says nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from mcp_server_claude.simulator.api_errors import rejection
from mcp_server_claude.simulator.compaction import last_summary, without_compacted
from mcp_server_claude.simulator.json_body import as_list, as_object, as_text, content_blocks
from mcp_server_claude.simulator.model_catalog import find_model
from mcp_server_claude.simulator.tool_changes import prefix_tools

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mcp_server_claude.simulator.catalog_model import CatalogModel
    from mcp_server_claude.simulator.json_body import Json, Object

BINDING_BETA = "thinking-binding-controls-2026-08-01"
THINKING_TYPES = frozenset({"thinking", "redacted_thinking"})
SIGNING_KEY = b"mcp-server-claude simulator"
TAG_BYTES = 16
DIGEST_CHARS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingSignature:
    """The content of a signature: the model and account that made the block, its prefix, and its token count.

    `previous` names the thinking block before this one, empty for the first. `system`, `tools` and `messages` are
    digests of the prefix.
    """

    model: str
    account: str
    previous: str
    system: str
    tools: str
    messages: str
    tokens: int

    def encode(self) -> str:
        """The signature as it stands in a block."""
        payload = json.dumps([getattr(self, name) for name in self.__slots__], separators=(",", ":")).encode()
        return b64encode(_tag(payload) + payload).decode()

    @property
    def name(self) -> str:
        """The name under which the next block records this one."""
        return _digest(self.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingContext:
    """The prefix, model and account to which a new thinking block of this request is bound."""

    model: CatalogModel
    account: str
    body: Object
    previous: str = ""

    def sign(self, content: Iterable[Json], tokens: int) -> str:
        """The signature of a block that follows `content` in the answer and counts `tokens`."""
        answer: Object = {"role": "assistant", "content": list(content)}
        messages: list[Json] = [*as_list(self.body.get("messages")), answer]
        return ThinkingSignature(
            model=self.model.id,
            account=self.account,
            previous=self.previous,
            system=_system_digest(self.body),
            tools=_tools_digest(self.body, as_list(self.body.get("messages"))),
            messages=_messages_digest(messages),
            tokens=tokens,
        ).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedThinking:
    """A request after its checks: its body without the dropped blocks, and what `input_transformations` lists.

    `previous` names the last thinking block that the next one follows.
    """

    body: Object
    transformations: tuple[Object, ...] = ()
    previous: str = ""


@dataclass(slots=True, kw_only=True)
class _Check:
    model: CatalogModel
    account: str
    behavior: str
    body: Object
    previous: str = ""
    dropped: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    transformations: list[Object] = field(default_factory=list["Object"])

    def check_block(self, place: tuple[int, int], block: Object) -> None:
        """Keep, drop or reject one thinking block."""
        path = f"messages.{place[0]}.content.{place[1]}"
        signature = read_signature(as_text(block.get("signature") or block.get("data")))
        if signature is None:
            raise rejection(f"{path}: Invalid `signature` in `{as_text(block.get('type'))}` block")
        producer = find_model(signature.model)
        if producer is not None and producer.prefix_check != "none" and self.model.prefix_check != "none":
            changed = self._changed_part(place, signature)
            if changed and not self._handle_mismatch(place, path, block, changed):
                return
        self.previous = signature.name
        if producer is not None and not can_read_thinking(self.model, producer):
            self._drop(place, path, "model_binding_mismatch")
        elif producer is not None and producer.binds_account and signature.account != self.account:
            self._drop(place, path, "organization_binding_mismatch")

    def _changed_part(self, place: tuple[int, int], signature: ThinkingSignature) -> str:
        """The part of the prefix that differs from the one that was signed, empty when none does."""
        index, position = place
        messages = as_list(self.body.get("messages"))
        message = as_object(messages[index])
        content: list[Json] = [*content_blocks(message.get("content"))[:position]]
        partial: Object = {**message, "content": content}
        before = [*messages[:index], partial]
        if signature.system != _system_digest(self.body):
            return "the `system` prompt has changed"
        if signature.tools != _tools_digest(self.body, messages[:index]):
            return "`tools` have changed"
        if signature.messages != _messages_digest(before):
            return "an earlier message has changed"
        if self.previous and signature.previous != self.previous:
            return "an earlier thinking block was left out or moved"
        return ""

    def _handle_mismatch(self, place: tuple[int, int], path: str, block: Object, changed: str) -> bool:
        """Drop, allow or reject a block whose prefix has changed; true when it stays in the request.

        Raises:
            RequestRejectedError: The request is answered with an error.
        """
        match self.behavior:
            case "drop_block":
                self._drop(place, path, "prefix_binding_mismatch")
                return False
            case "allow":
                allowed: Object = {"type": "thinking_mismatch_allowed", "path": path}
                self.transformations.append({**allowed, "reason": "prefix_binding_mismatch"})
                return True
            case behavior:
                advice = ""
                if behavior != "error":
                    advice = f" That setting requires the `{BINDING_BETA}` value in the `anthropic-beta` header."
                raise rejection(
                    f"{path}: Invalid `signature` in `{as_text(block.get('type'))}` block. The block is bound to a "
                    "different conversation. Remove the block, or set "
                    f'`thinking.block_binding.prefix_mismatch_behavior` to "drop_block".{advice} '
                    f"Since the block was produced, {changed}."
                )

    def _drop(self, place: tuple[int, int], path: str, reason: str) -> None:
        self.dropped.add(place)
        self.transformations.append({"type": "thinking_dropped", "path": path, "reason": reason})


def check_thinking(
    body: Object, model: CatalogModel, *, account: str, betas: str, new_account: bool = True, is_batch: bool = False
) -> CheckedThinking:
    """Check the thinking blocks that a request sends back.

    In a batch, a block whose prefix has changed is dropped unless the request asks for an error ("Preserved thinking",
    as documented by October 2026).

    Raises:
        RequestRejectedError: A signature is not the API's, or the prefix of a block has changed and the request or the
            model does not let such a block pass.
    """
    has_beta = BINDING_BETA in betas
    requested = as_object(as_object(body.get("thinking")).get("block_binding")).get("prefix_mismatch_behavior")
    behavior = as_text(requested) or (
        "drop_block" if is_batch else _default_behavior(model, has_beta=has_beta, new_account=new_account)
    )
    check = _Check(model=model, account=account, behavior=behavior, body=body)
    first_place = last_summary(as_list(body.get("messages"))) or (0, 0)
    for index, message in enumerate(as_list(body.get("messages"))):
        for position, block in enumerate(as_list(as_object(message).get("content"))):
            if (index, position) >= first_place and as_object(block).get("type") in THINKING_TYPES:
                check.check_block((index, position), as_object(block))
    return CheckedThinking(
        body=_without(body, check.dropped),
        transformations=tuple(check.transformations),
        previous=check.previous,
    )


def can_read_thinking(reader: CatalogModel, producer: CatalogModel) -> bool:
    """True when a model reads the thinking of another ("Which model switches keep the reasoning on the Claude API")."""
    if producer.id in {reader.id, "claude-haiku-5-5"}:
        return True
    guarded = producer.line in {"fable", "mythos"}
    match reader.id:
        case "claude-fable-5-2" | "claude-mythos-5-2":
            return producer.id in {"claude-fable-5-2", "claude-mythos-5-2"}
        case "claude-fable-5-1" | "claude-mythos-5-1":
            return producer.id == "claude-opus-5-5" or producer.created_on <= reader.created_on
        case "claude-opus-5-5":
            return not guarded and (producer.id == "claude-sonnet-5-5" or producer.created_on < reader.created_on)
        case "claude-sonnet-5-5":
            return not guarded and producer.id not in {"claude-opus-5-5", "claude-opus-5"}
        case "claude-haiku-5-5":
            return False
        case _:
            return not guarded and producer.created_on < reader.created_on


def read_signature(signature: str) -> ThinkingSignature | None:
    """The content of a signature; None when it is not one of ours or has been tampered with."""
    try:
        raw = b64decode(signature, validate=True)
    except (Base64Error, ValueError):
        return None
    tag, payload = raw[:TAG_BYTES], raw[TAG_BYTES:]
    if not payload or not hmac.compare_digest(tag, _tag(payload)):
        return None
    values = cast("list[str]", json.loads(payload))
    names = ThinkingSignature.__slots__
    return replace(_EMPTY, **dict(zip(names, values, strict=True)))


_EMPTY = ThinkingSignature(model="", account="", previous="", system="", tools="", messages="", tokens=0)


def with_url_contents(body: Object, versions: Mapping[str, int]) -> Object:
    """The request as its prefix counts: behind a URL, the content counts and not the query, which may be a signature.

    `versions` say how often the content behind a URL has changed.
    """
    messages: list[Json] = [
        {**message, "content": [_with_url_content(block, versions) for block in as_list(message.get("content"))]}
        if isinstance(message.get("content"), list)
        else message
        for message in map(as_object, as_list(body.get("messages")))
    ]
    return {**body, "messages": messages} if messages else body


def _with_url_content(block: Json, versions: Mapping[str, int]) -> Json:
    source = as_object(as_object(block).get("source"))
    if source.get("type") != "url":
        return block
    address = as_text(source.get("url")).partition("?")[0]
    content: Object = {"type": "url", "content": f"{address} {versions.get(address, 0)}"}
    return {**as_object(block), "source": content}


def account_name(key: str) -> str:
    """The account of an API key; every key is an account of its own here."""
    return _digest(key)


def without_thinking(messages: Iterable[Object]) -> list[Object]:
    """The messages without their thinking blocks."""
    return [
        message
        if isinstance(message.get("content"), str)
        else {**message, "content": [b for b in content_blocks(message.get("content")) if not _is_thinking(b)]}
        for message in messages
    ]


def _default_behavior(model: CatalogModel, *, has_beta: bool, new_account: bool) -> str:
    if model.prefix_check == "every_account" or (model.prefix_check == "new_accounts" and new_account):
        return "error" if has_beta else "error without beta"
    return "allow"


def _without(body: Object, dropped: set[tuple[int, int]]) -> Object:
    if not dropped:
        return body
    messages: list[Json] = []
    for index, message in enumerate(as_list(body.get("messages"))):
        content = as_object(message).get("content")
        if isinstance(content, list):
            remaining = [block for position, block in enumerate(content) if (index, position) not in dropped]
            messages.append({**as_object(message), "content": remaining})
        else:
            messages.append(message)
    return {**body, "messages": messages}


def _is_thinking(block: Object) -> bool:
    return block.get("type") in THINKING_TYPES


def _system_digest(body: Object) -> str:
    blocks: list[Json] = [*content_blocks(body.get("system"))]
    return _digest(_canonical(blocks))


def _tools_digest(body: Object, messages: Iterable[Json]) -> str:
    """The digest of the set of tools, as far as `messages` refer to them: their order does not count."""
    return _digest("\n".join(sorted(_canonical(tool) for tool in prefix_tools(body, messages))))


def _messages_digest(messages: Iterable[Json]) -> str:
    """The digest of the blocks of a conversation, thinking left out; messages of one role in a row are one."""
    digest = hashlib.sha256()
    for message in map(as_object, without_compacted([*messages])):
        for block in content_blocks(message.get("content")):
            if not _is_thinking(block):
                digest.update(f"{as_text(message.get('role'))}\0{_canonical(block)}\0".encode("utf-8", "replace"))
    return digest.hexdigest()[:DIGEST_CHARS]


def _canonical(value: Json) -> str:
    return json.dumps(_comparable(value), sort_keys=True, separators=(",", ":"))


def _comparable(value: Json) -> Json:
    """The value without `cache_control` and without fields that say nothing (null, or an empty list of citations)."""
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if isinstance(value, dict):
        return {
            key: _comparable(item)
            for key, item in value.items()
            if key != "cache_control" and item is not None and not (key == "citations" and item == [])
        }
    return value


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:DIGEST_CHARS]


def _tag(payload: bytes) -> bytes:
    return hmac.digest(SIGNING_KEY, payload, "sha256")[:TAG_BYTES]
