"""The models this API serves, with what `/v1/models` says about them and the rules they keep.

Ids, context sizes and output limits follow Anthropic's published tables of November 2026; the minimum of cacheable
tokens per model follows the prompt-caching documentation (512 to 4,096 tokens).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Json, Object

Models = Literal["full", "plain", "empty", "missing", "foreign"]
"""What `/v1/models` looks like: Anthropic's, models that can do little, an empty list, a 404, or another vendor's shape
(as gateways answer)."""

MILLION = 1_000_000
ALL_EFFORTS = ("low", "medium", "high", "xhigh", "max")
FOUR_EFFORTS = ("low", "medium", "high", "max")
THREE_EFFORTS = ("low", "medium", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model: identity, limits (in tokens) and which requests it takes."""

    id: str
    name: str
    line: str
    created: str
    max_input_tokens: int = MILLION
    max_tokens: int = 128_000
    efforts: tuple[str, ...] = ()
    thinking: tuple[str, ...] = ("adaptive", "disabled", "between_tools")
    always_thinks: bool = False
    thinks_by_default: bool = False
    omits_thinking: bool = True
    prefill: bool = False
    min_cacheable: int = 1024
    lifecycle: Literal["active", "deprecated", "retired"] = "active"
    deprecated: str | None = None
    retires: str | None = None
    aliases: tuple[str, ...] = ()
    images: bool = True
    pdf: bool = True
    structured_outputs: bool = True
    web_search: bool = True
    code_execution: bool = True

    @property
    def programmatic(self) -> bool:
        """Whether code that this model runs may call its other tools."""
        return self.omits_thinking and self.code_execution

    def takes_tool(self, kind: str) -> bool:
        """Whether this model takes a server tool of that type; from 2026 on those of the web are run by code."""
        if kind.startswith(("web_search", "web_fetch")):
            return self.web_search and (self.programmatic or "_2026" not in kind)
        return self.code_execution or not kind.startswith("code_execution")


def _always(*, id_: str, name: str, line: str, created: str, min_cacheable: int = 512) -> Model:
    return Model(
        id=id_,
        name=name,
        line=line,
        created=created,
        efforts=ALL_EFFORTS,
        thinking=("adaptive",),
        always_thinks=True,
        thinks_by_default=True,
        min_cacheable=min_cacheable,
    )


def _older(*, id_: str, name: str, line: str, created: str, efforts: tuple[str, ...], alias: str) -> Model:
    return Model(
        id=id_,
        name=name,
        line=line,
        created=created,
        efforts=efforts,
        max_input_tokens=200_000,
        max_tokens=64_000,
        thinking=("enabled", "disabled"),
        omits_thinking=False,
        prefill=True,
        min_cacheable=4096,
        aliases=(alias,),
    )


MODELS: tuple[Model, ...] = (
    _always(id_="claude-fable-5-2", name="Claude Fable 5.2", line="fable", created="2026-11-09"),
    Model(id="claude-haiku-5-5", name="Claude Haiku 5.5", line="haiku", created="2026-10-28", efforts=ALL_EFFORTS),
    Model(id="claude-sonnet-5-5", name="Claude Sonnet 5.5", line="sonnet", created="2026-10-07", efforts=ALL_EFFORTS),
    _always(id_="claude-opus-5-5", name="Claude Opus 5.5", line="opus", created="2026-09-22"),
    Model(
        id="claude-sonnet-5",
        name="Claude Sonnet 5",
        line="sonnet",
        created="2026-06-30",
        efforts=ALL_EFFORTS,
    ),
    Model(id="claude-opus-5", name="Claude Opus 5", line="opus", created="2026-06-11", efforts=ALL_EFFORTS),
    Model(
        id="claude-sonnet-4-6",
        name="Claude Sonnet 4.6",
        line="sonnet",
        created="2026-02-17",
        max_tokens=64_000,
        efforts=FOUR_EFFORTS,
        thinking=("adaptive", "enabled", "disabled"),
        omits_thinking=False,
        min_cacheable=2048,
    ),
    _older(
        id_="claude-opus-4-5-20251101",
        name="Claude Opus 4.5",
        line="opus",
        created="2025-11-24",
        efforts=THREE_EFFORTS,
        alias="claude-opus-4-5",
    ),
    _older(
        id_="claude-haiku-4-5-20251001",
        name="Claude Haiku 4.5",
        line="haiku",
        created="2025-10-15",
        efforts=(),
        alias="claude-haiku-4-5",
    ),
    Model(
        id="claude-sonnet-4-5-20250929",
        name="Claude Sonnet 4.5",
        line="sonnet",
        created="2025-09-29",
        max_input_tokens=200_000,
        max_tokens=64_000,
        thinking=("enabled", "disabled"),
        omits_thinking=False,
        prefill=True,
        lifecycle="deprecated",
        deprecated="2026-08-31",
        retires="2026-11-30",
        aliases=("claude-sonnet-4-5",),
    ),
    Model(
        id="claude-opus-4-20250514",
        name="Claude Opus 4",
        line="opus",
        created="2025-05-22",
        max_input_tokens=200_000,
        max_tokens=32_000,
        thinking=("enabled", "disabled"),
        omits_thinking=False,
        prefill=True,
        lifecycle="retired",
        deprecated="2026-02-01",
        retires="2026-06-15",
        aliases=("claude-opus-4-0",),
    ),
)


PLAIN: tuple[Model, ...] = (
    Model(
        id="claude-plain-2",
        name="Claude Plain 2",
        line="plain",
        created="2026-09-01",
        max_input_tokens=200_000,
        max_tokens=8_000,
        thinking=("disabled",),
        omits_thinking=False,
        prefill=True,
        images=False,
        pdf=False,
        structured_outputs=False,
        web_search=False,
        code_execution=False,
    ),
    replace(
        _always(id_="claude-thinker-1", name="Claude Thinker 1", line="thinker", created="2026-08-01"),
        structured_outputs=False,
        web_search=False,
    ),
)
"""Models that can do little, as a gateway may list them; the second cannot be held to a schema in any way."""


def find(name: str, models: Models = "full") -> Model | None:
    """The model of that id or alias; behind a gateway (any other catalogue) every name is a model."""
    for model in listed(models):
        if name == model.id or name in model.aliases:
            return model
    if models in {"full", "plain"}:
        return None
    everything = ("adaptive", "enabled", "disabled", "between_tools")
    return Model(
        id=name, name=name, line="", created="2026-01-01", efforts=ALL_EFFORTS, thinking=everything, prefill=True
    )


def listed(models: Models) -> tuple[Model, ...]:
    """The models that are listed, newest first; a gateway serves Anthropic's all the same."""
    return PLAIN if models == "plain" else MODELS


def as_json(model: Model) -> Object:
    """The model as `GET /v1/models/{id}` returns it."""
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.name,
        "created_at": _moment(model.created),
        "lifecycle": model.lifecycle,
        "deprecated_at": _moment(model.deprecated),
        "retires_at": _moment(model.retires),
        "line": model.line or None,
        "max_input_tokens": model.max_input_tokens,
        "max_tokens": model.max_tokens,
        "capabilities": _capabilities(model),
    }


def page(models: Models, *, limit: int, after_id: str = "", before_id: str = "") -> Object | None:
    """One page of `GET /v1/models`, newest first; None when the cursor names no model."""
    every = listed(models)
    ids = [model.id for model in every]
    if (after_id and after_id not in ids) or (before_id and before_id not in ids):
        return None
    start = ids.index(after_id) + 1 if after_id else 0
    stop = ids.index(before_id) if before_id else len(ids)
    found = every[max(start, stop - limit) : stop] if before_id else every[start : start + limit]
    data: list[Json] = [as_json(model) for model in found]
    more = stop - limit > start if before_id else start + limit < stop
    return {
        "data": data,
        "has_more": more,
        "first_id": found[0].id if found else None,
        "last_id": found[-1].id if found else None,
    }


def foreign() -> Object:
    """A list of models in another vendor's shape, as some gateways answer."""
    names = ("claude-opus-5-5", "llama-4-scout")
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 1_760_000_000, "owned_by": "gateway"} for name in names],
    }


def _moment(day: str | None) -> str | None:
    return f"{day}T00:00:00Z" if day else None


def _capabilities(model: Model) -> Object:
    yes: Object = {"supported": True}
    effort: Object = {level: {"supported": level in model.efforts} for level in ALL_EFFORTS}
    types: Object = {
        kind: {"supported": kind in model.thinking} for kind in ("adaptive", "between_tools", "disabled", "enabled")
    }
    return {
        "batch": yes,
        "citations": yes,
        "code_execution": {"supported": model.programmatic},
        "context_management": {
            "supported": True,
            "clear_thinking_20251015": yes,
            "clear_tool_uses_20250919": yes,
            "compact_20260112": {"supported": not model.prefill},
        },
        "effort": {"supported": bool(model.efforts)} | effort,
        "image_input": {"supported": model.images},
        "pdf_input": {"supported": model.pdf},
        "server_tools": {
            "supported": model.web_search or model.code_execution,
            "code_execution": {"supported": model.code_execution},
            "web_search": {"supported": model.web_search},
        },
        "structured_outputs": {"supported": model.structured_outputs},
        "thinking": {"supported": True, "types": types},
    }
