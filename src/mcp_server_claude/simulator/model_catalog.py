"""The models that the simulator serves: their limits, the requests that each of them takes, and their lifecycle.

The values follow Anthropic's documentation as of November 2026 (platform.claude.com/docs: "Models overview", "Model
deprecations", "Thinking", "Effort", "Prompt caching", "Preserved thinking", "Mid-conversation system messages").
Some of those pages were copies from August to October 2026; docs/simulator.md names the age of each rule.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Object

ModelList = Literal["full", "plain", "empty", "missing", "foreign"]
"""The answer to `GET /v1/models`: Anthropic's models, models that can do little, an empty list, a 404, or the shape of
another vendor (as gateways answer)."""

PrefixCheck = Literal["none", "new_accounts", "every_account"]
"""The accounts on which a model rejects thinking whose prefix has changed, where the request does not choose."""

MILLION_TOKENS = 1_000_000
ALL_EFFORTS = ("low", "medium", "high", "xhigh", "max")
FOUR_EFFORTS = ("low", "medium", "high", "max")
THREE_EFFORTS = ("low", "medium", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """One model: identity, limits (in tokens) and the requests that it takes.

    `created_on`, `deprecated_on` and `retires_on` are days (`YYYY-MM-DD`, UTC).
    """

    id: str
    display_name: str
    line: str
    created_on: str
    max_input_tokens: int = MILLION_TOKENS
    max_tokens: int = 128_000
    efforts: tuple[str, ...] = ()
    default_effort: str = "high"
    thinking: tuple[str, ...] = ("adaptive", "disabled")
    always_thinks: bool = False
    thinks_by_default: bool = False
    omits_thinking: bool = True
    prefix_check: PrefixCheck = "none"
    binds_account: bool = False
    forced_tools: bool = True
    system_messages: bool = False
    inference_geo: bool = True
    prefill: bool = False
    min_cacheable_tokens: int = 1024
    lifecycle: Literal["active", "deprecated", "retired"] = "active"
    deprecated_on: str | None = None
    retires_on: str | None = None
    aliases: tuple[str, ...] = ()
    images: bool = True
    pdf: bool = True
    structured_outputs: bool = True
    web_search: bool = True
    code_execution: bool = True
    programmatic_calls: bool = True

    @property
    def takes_programmatic_calls(self) -> bool:
        """True when code that this model runs may call its other tools (Claude 4.6 and later)."""
        return self.programmatic_calls and self.code_execution

    @property
    def takes_extended_output(self) -> bool:
        """True when a batch may ask this model for 300,000 tokens (beta): Opus and Sonnet from 4.6, Haiku 5.5."""
        return self.line in {"opus", "sonnet", "haiku"} and not self.prefill

    def takes_server_tool(self, tool_type: str) -> bool:
        """True when this model takes a server tool of that type; from 2026 on, code runs those of the web."""
        if tool_type.startswith(("web_search", "web_fetch")):
            return self.web_search and (self.takes_programmatic_calls or "_2026" not in tool_type)
        return self.code_execution or not tool_type.startswith("code_execution")


def _always_thinking_model(
    *,
    id_: str,
    name: str,
    line: str,
    created: str,
    default_effort: str = "high",
    prefix_check: PrefixCheck = "none",
    forced_tools: bool = False,
    system_messages: bool = True,
) -> CatalogModel:
    return CatalogModel(
        id=id_,
        display_name=name,
        line=line,
        created_on=created,
        efforts=ALL_EFFORTS,
        default_effort=default_effort,
        thinking=("adaptive",),
        always_thinks=True,
        thinks_by_default=True,
        prefix_check=prefix_check,
        forced_tools=forced_tools,
        system_messages=system_messages,
        min_cacheable_tokens=512,
    )


def _opus_4_model(*, id_: str, name: str, created: str, min_cacheable: int, **more: object) -> CatalogModel:
    """Opus 4.6 to 4.8: they think when `adaptive` is sent."""
    model = CatalogModel(
        id=id_,
        display_name=name,
        line="opus",
        created_on=created,
        efforts=ALL_EFFORTS,
        min_cacheable_tokens=min_cacheable,
    )
    return replace(model, **more)


def _manual_thinking_model(
    *, id_: str, name: str, line: str, created: str, efforts: tuple[str, ...], alias: str, **more: object
) -> CatalogModel:
    """A model up to Claude 4.5: it thinks within `budget_tokens`, and takes a prefilled answer."""
    model = CatalogModel(
        id=id_,
        display_name=name,
        line=line,
        created_on=created,
        efforts=efforts,
        max_input_tokens=200_000,
        max_tokens=64_000,
        thinking=("enabled", "disabled"),
        omits_thinking=False,
        inference_geo=False,
        prefill=True,
        programmatic_calls=False,
        min_cacheable_tokens=4096,
        aliases=(alias,),
    )
    return replace(model, **more)


MODELS: tuple[CatalogModel, ...] = (
    _always_thinking_model(
        id_="claude-fable-5-2",
        name="Claude Fable 5.2",
        line="fable",
        created="2026-11-09",
        prefix_check="every_account",
    ),
    _always_thinking_model(
        id_="claude-mythos-5-2",
        name="Claude Mythos 5.2",
        line="mythos",
        created="2026-11-09",
        prefix_check="every_account",
    ),
    CatalogModel(
        id="claude-haiku-5-5",
        display_name="Claude Haiku 5.5",
        line="haiku",
        created_on="2026-10-07",
        efforts=ALL_EFFORTS,
        default_effort="medium",
        thinks_by_default=True,
        prefix_check="new_accounts",
        binds_account=True,
        system_messages=True,
        min_cacheable_tokens=512,
    ),
    CatalogModel(
        id="claude-sonnet-5-5",
        display_name="Claude Sonnet 5.5",
        line="sonnet",
        created_on="2026-09-28",
        efforts=ALL_EFFORTS,
        thinking=("adaptive", "between_tools"),
        thinks_by_default=True,
        prefix_check="new_accounts",
        binds_account=True,
        forced_tools=False,
        system_messages=True,
        min_cacheable_tokens=512,
    ),
    _always_thinking_model(
        id_="claude-opus-5-5",
        name="Claude Opus 5.5",
        line="opus",
        created="2026-09-22",
        default_effort="medium",
        prefix_check="new_accounts",
    ),
    _always_thinking_model(
        id_="claude-fable-5-1", name="Claude Fable 5.1", line="fable", created="2026-09-01", prefix_check="new_accounts"
    ),
    _always_thinking_model(
        id_="claude-mythos-5-1",
        name="Claude Mythos 5.1",
        line="mythos",
        created="2026-09-01",
        prefix_check="every_account",
    ),
    CatalogModel(
        id="claude-opus-5",
        display_name="Claude Opus 5",
        line="opus",
        created_on="2026-07-24",
        efforts=ALL_EFFORTS,
        thinks_by_default=True,
        system_messages=True,
        min_cacheable_tokens=512,
    ),
    CatalogModel(
        id="claude-sonnet-5",
        display_name="Claude Sonnet 5",
        line="sonnet",
        created_on="2026-06-30",
        efforts=ALL_EFFORTS,
        thinks_by_default=True,
    ),
    _always_thinking_model(
        id_="claude-fable-5", name="Claude Fable 5", line="fable", created="2026-06-09", forced_tools=True
    ),
    _always_thinking_model(
        id_="claude-mythos-5", name="Claude Mythos 5", line="mythos", created="2026-06-09", forced_tools=True
    ),
    _opus_4_model(
        id_="claude-opus-4-8", name="Claude Opus 4.8", created="2026-05-28", min_cacheable=1024, system_messages=True
    ),
    _opus_4_model(id_="claude-opus-4-7", name="Claude Opus 4.7", created="2026-04-16", min_cacheable=2048),
    CatalogModel(
        id="claude-sonnet-4-6",
        display_name="Claude Sonnet 4.6",
        line="sonnet",
        created_on="2026-02-17",
        max_tokens=64_000,
        efforts=FOUR_EFFORTS,
        thinking=("adaptive", "enabled", "disabled"),
        omits_thinking=False,
    ),
    _opus_4_model(
        id_="claude-opus-4-6",
        name="Claude Opus 4.6",
        created="2026-02-05",
        min_cacheable=4096,
        efforts=FOUR_EFFORTS,
        thinking=("adaptive", "enabled", "disabled"),
        omits_thinking=False,
    ),
    _manual_thinking_model(
        id_="claude-opus-4-5-20251101",
        name="Claude Opus 4.5",
        line="opus",
        created="2025-11-24",
        efforts=THREE_EFFORTS,
        alias="claude-opus-4-5",
        lifecycle="deprecated",
        retires_on="2027-01-22",
    ),
    _manual_thinking_model(
        id_="claude-haiku-4-5-20251001",
        name="Claude Haiku 4.5",
        line="haiku",
        created="2025-10-15",
        efforts=(),
        alias="claude-haiku-4-5",
    ),
    _manual_thinking_model(
        id_="claude-sonnet-4-5-20250929",
        name="Claude Sonnet 4.5",
        line="sonnet",
        created="2025-09-29",
        efforts=(),
        alias="claude-sonnet-4-5",
        min_cacheable_tokens=1024,
        lifecycle="deprecated",
        deprecated_on="2026-08-31",
        retires_on="2026-11-30",
    ),
    _manual_thinking_model(
        id_="claude-opus-4-20250514",
        name="Claude Opus 4",
        line="opus",
        created="2025-05-22",
        efforts=(),
        alias="claude-opus-4-0",
        max_tokens=32_000,
        min_cacheable_tokens=1024,
        lifecycle="retired",
        deprecated_on="2026-02-01",
        retires_on="2026-06-15",
    ),
)


LIMITED_MODELS: tuple[CatalogModel, ...] = (
    CatalogModel(
        id="claude-plain-2",
        display_name="Claude Plain 2",
        line="plain",
        created_on="2026-09-01",
        max_input_tokens=200_000,
        max_tokens=8_000,
        thinking=("disabled",),
        omits_thinking=False,
        inference_geo=False,
        prefill=True,
        programmatic_calls=False,
        images=False,
        pdf=False,
        structured_outputs=False,
        web_search=False,
        code_execution=False,
    ),
    replace(
        _always_thinking_model(id_="claude-thinker-1", name="Claude Thinker 1", line="thinker", created="2026-08-01"),
        structured_outputs=False,
        web_search=False,
    ),
)
"""Models that can do little, as a gateway may list them; the second cannot be held to a schema in any way."""


def find_model(name: str, models: ModelList = "full") -> CatalogModel | None:
    """The model of that id or alias; behind a gateway (any other catalogue) every name is a model."""
    for model in listed_models(models):
        if name == model.id or name in model.aliases:
            return model
    if models in {"full", "plain"}:
        return None
    everything = ("adaptive", "enabled", "disabled", "between_tools")
    return CatalogModel(
        id=name,
        display_name=name,
        line="",
        created_on="2026-01-01",
        efforts=ALL_EFFORTS,
        thinking=everything,
        prefill=True,
    )


def listed_models(models: ModelList) -> tuple[CatalogModel, ...]:
    """The models that are listed, newest first; a gateway serves Anthropic's all the same."""
    return LIMITED_MODELS if models == "plain" else MODELS


def model_json(model: CatalogModel) -> Object:
    """The model as `GET /v1/models/{id}` returns it."""
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.display_name,
        "created_at": _timestamp(model.created_on),
        "lifecycle": model.lifecycle,
        "deprecated_at": _timestamp(model.deprecated_on),
        "retires_at": _timestamp(model.retires_on),
        "line": model.line or None,
        "max_input_tokens": model.max_input_tokens,
        "max_tokens": model.max_tokens,
        "capabilities": _capabilities(model),
    }


def other_vendor_list() -> Object:
    """A list of models in another vendor's shape, as some gateways answer."""
    names = ("claude-opus-5-5", "llama-4-scout")
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 1_760_000_000, "owned_by": "gateway"} for name in names],
    }


def _timestamp(day: str | None) -> str | None:
    return f"{day}T00:00:00Z" if day else None


def _capabilities(model: CatalogModel) -> Object:
    yes: Object = {"supported": True}
    effort: Object = {level: {"supported": level in model.efforts} for level in ALL_EFFORTS}
    types: Object = {
        kind: {"supported": kind in model.thinking} for kind in ("adaptive", "between_tools", "disabled", "enabled")
    }
    return {
        "batch": yes,
        "citations": yes,
        "code_execution": {"supported": model.takes_programmatic_calls},
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
