"""The models that the simulator serves, as the documentation of November 2026 lists them ("Models overview")."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from mcp_server_claude.simulator.catalog_model import (
    ALL_EFFORTS,
    FOUR_EFFORTS,
    THREE_EFFORTS,
    CatalogModel,
)

if TYPE_CHECKING:
    from mcp_server_claude.simulator.catalog_model import PrefixCheck
    from mcp_server_claude.simulator.json_body import Object

TODAY = "2026-11-29"
"""The day (`YYYY-MM-DD`) by which models are active, deprecated or retired, unless a simulator has another."""

ModelList = Literal["full", "plain", "empty", "missing", "foreign"]
"""The answer to `GET /v1/models`: Anthropic's models, models that can do little, an empty list, a 404, or the shape of
another vendor (as gateways answer)."""


def _always_thinking_model(
    *,
    id_: str,
    name: str,
    line: str,
    created: str,
    default_effort: str = "high",
    fast_mode: Literal["none", "available"] = "none",
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
        fast_mode=fast_mode,
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
        fast_mode="available",
        name="Claude Fable 5.2",
        line="fable",
        created="2026-11-09",
        prefix_check="every_account",
    ),
    _always_thinking_model(
        id_="claude-mythos-5-2",
        fast_mode="available",
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
        fast_mode="available",
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
        fast_mode="beta",
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
        id_="claude-opus-4-8",
        name="Claude Opus 4.8",
        created="2026-05-28",
        min_cacheable=1024,
        system_messages=True,
        fast_mode="beta",
        fast_mode_ends_on="2026-11-30",
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
        fast_mode="ignored",
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
    """The models that are listed, newest first; a gateway still serves Anthropic's."""
    return LIMITED_MODELS if models == "plain" else MODELS


def other_vendor_list() -> Object:
    """A list of models in another vendor's shape, as some gateways answer."""
    names = ("claude-opus-5-5", "llama-4-scout")
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 1_760_000_000, "owned_by": "gateway"} for name in names],
    }
