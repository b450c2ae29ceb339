"""One model and what it accepts, read from an entry of `GET /v1/models` (`anthropic.types.ModelInfo`, SDK 2.11).

What an entry does not say is taken as allowed: the API refuses better than a guess. What it says is kept exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal, TypeAlias, TypeGuard, cast

Lifecycle: TypeAlias = Literal["active", "deprecated", "retired"]
EFFORT_LEVELS = ("low", "medium", "high", "xhigh", "max")
"""The efforts known today, ascending. A model may come with others; they follow these."""

UNKNOWN_DATE = date(1970, 1, 1)
"""What the API itself gives as `created_at` when it does not know."""

MAX_ID_CHARS = 200
SNAPSHOT_DATE = re.compile(r"-\d{8}$")
MASKABLE_FEATURES = frozenset({"structured_outputs", "web_search", "code_execution", "programmatic", "batch"})
DEFAULT_MAX_TOKENS = 16_000
"""The `max_tokens` for a model whose limit is unknown: the API requires one, and small models refuse a large one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaudeModel:
    """A model, as far as its capabilities decide what may be sent.

    `id` is what is sent. `context` and `max_output_tokens` are in tokens, 0 when unknown. `efforts` is empty when
    the model
    takes none. `thinking` holds the accepted values of `thinking.type`, empty when nothing is known of them.
    `web_search` and `code_execution` are the server tools, `programmatic` says that code which the model runs may call
    the others, as their newest versions do to filter what they found. `known` is False for an id that is only passed
    on. `alias` is what Anthropic calls the model, where it is asked on a platform that calls it something else.
    """

    id: str
    name: str = ""
    line: str = ""
    lifecycle: Lifecycle = "active"
    created_on: date = UNKNOWN_DATE
    retires_on: date | None = None
    context_tokens: int = 0
    max_output_tokens: int = 0
    efforts: tuple[str, ...] = EFFORT_LEVELS
    thinking_types: frozenset[str] = frozenset()
    images: bool = True
    pdf: bool = True
    citations: bool = True
    structured_outputs: bool = True
    web_search: bool = True
    code_execution: bool = True
    programmatic: bool = False
    batch: bool = True
    is_listed: bool = True
    anthropic_id: str = ""

    def without_features(self, features: frozenset[str]) -> ClaudeModel:
        """The model where these are not to be had, e.g. on a platform (their names are those of the fields)."""
        return replace(self, **dict.fromkeys(features & MASKABLE_FEATURES, False)) if features else self

    def max_tokens_for(self, requested: int = 0) -> int:
        """The `max_tokens` to send: what was asked for, else the model's own limit."""
        return requested or self.max_output_tokens or DEFAULT_MAX_TOKENS

    @property
    def accepts_forced_tool(self) -> bool:
        """Whether it can be made to call a tool: not while it thinks (docs, "Extended thinking"), so that its thinking
        must be one that can be switched off.
        """
        return not self.thinking_types or "disabled" in self.thinking_types

    @property
    def accepts_prefill(self) -> bool:
        """Whether a trailing assistant message is continued. The list does not say; but 4.6 is both the first version
        to refuse prefill and the first to accept adaptive thinking (SDK facts §3, §7), so one tells the other.
        """
        return bool(self.thinking_types) and "adaptive" not in self.thinking_types

    @property
    def lifecycle_note(self) -> str:
        """A sentence for whoever uses a model that is going away, else empty."""
        if self.lifecycle == "active":
            return ""
        when = f" {self.retires_on:%Y-%m-%d}" if self.retires_on else ""
        if self.lifecycle == "retired":
            return f"{self.id} was retired{when}."
        return f"{self.id} is deprecated and retires{when}." if when else f"{self.id} is deprecated."


def parse_model_list(raw: object) -> list[ClaudeModel] | None:
    """The models of a page of `GET /v1/models`, or of its entries; None when it is not Anthropic's list.

    Gateways answer with nothing, a page of HTML or OpenAI's list; entries of another shape are left out.
    """
    entries = model_entries(raw)
    models = [model for entry in entries if (model := _parse_entry(entry)) is not None]
    unique = {model.id: model for model in reversed(models)}
    return [unique[model.id] for model in models if unique[model.id] is model] or None


def model_entries(raw: object) -> list[Mapping[str, object]]:
    """The entries of a list of models, in whatever it is wrapped; none when there are none."""
    listed = raw.get("data") if is_json_object(raw) else raw
    if not isinstance(listed, Sequence) or isinstance(listed, str | bytes):
        return []
    return [entry for entry in cast("Sequence[object]", listed) if is_json_object(entry)]


def is_json_object(value: object) -> TypeGuard[Mapping[str, object]]:
    """Whether this is a JSON object."""
    return isinstance(value, Mapping)


def without_date(name: str) -> str:
    """The id without its snapshot's date: the alias (docs, "Model IDs and versioning")."""
    return SNAPSHOT_DATE.sub("", name)


def is_model_id(name: str) -> bool:
    """Whether this can be sent as a model's id at all: short and printable (a lone surrogate is not)."""
    return 0 < len(name) <= MAX_ID_CHARS and name.isprintable() and name == name.strip()


def _parse_entry(entry: Mapping[str, object]) -> ClaudeModel | None:
    name = entry.get("id")
    # OpenAI's entries have an `object` and no `type`; that and a display name tell Anthropic's from others.
    if entry.get("type") != "model" or not isinstance(name, str) or not is_model_id(name):
        return None
    if not isinstance(entry.get("display_name"), str):
        return None
    lifecycle = _printable_text(entry, "lifecycle")
    can = _object_at(entry, "capabilities")
    return ClaudeModel(
        id=name,
        name=_printable_text(entry, "display_name"),
        line=_printable_text(entry, "line"),
        lifecycle=lifecycle if lifecycle == "deprecated" or lifecycle == "retired" else "active",  # noqa: PLR1714 - narrows
        created_on=_parse_date(entry.get("created_at")) or UNKNOWN_DATE,
        retires_on=_parse_date(entry.get("retires_at")),
        context_tokens=_positive_count(entry.get("max_input_tokens")),
        max_output_tokens=_positive_count(entry.get("max_tokens")),
        efforts=_effort_levels(can),
        thinking_types=_thinking_types(can),
        images=_has_capability(can, "image_input"),
        pdf=_has_capability(can, "pdf_input"),
        citations=_has_capability(can, "citations"),
        structured_outputs=_has_capability(can, "structured_outputs"),
        web_search=_has_capability(can, "server_tools", "web_search"),
        code_execution=_has_capability(can, "server_tools", "code_execution"),
        programmatic=_supported(can.get("code_execution")) is True,
        batch=_has_capability(can, "batch"),
    )


def _object_at(whole: Mapping[str, object], key: str) -> Mapping[str, object]:
    part = whole.get(key)
    return part if is_json_object(part) else {}


def _supported(capability: object) -> bool | None:
    """What a capability says of itself, None when it says nothing."""
    supported = capability.get("supported") if is_json_object(capability) else None
    return supported if isinstance(supported, bool) else None


def _has_capability(capabilities: Mapping[str, object], *path: str) -> bool:
    """Whether the capability at `path` is there: a part is not when the whole is not."""
    here: object = capabilities
    for step in path:
        here = here.get(step) if is_json_object(here) else None
        if _supported(here) is False:
            return False
    return True


def _effort_levels(capabilities: Mapping[str, object]) -> tuple[str, ...]:
    effort = _object_at(capabilities, "effort")
    if _supported(effort) is False:
        return ()
    accepted = [level for level in effort if level != "supported" and _supported(effort[level])]
    ordered = [level for level in EFFORT_LEVELS if level in accepted]
    return (*ordered, *(level for level in accepted if level not in EFFORT_LEVELS)) or EFFORT_LEVELS


def _thinking_types(capabilities: Mapping[str, object]) -> frozenset[str]:
    types = _object_at(_object_at(capabilities, "thinking"), "types")
    return frozenset(kind for kind, capability in types.items() if _supported(capability))


def _printable_text(entry: Mapping[str, object], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) and value.isprintable() else ""


def _positive_count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _parse_date(value: object) -> date | None:
    if not isinstance(value, str):
        return None
    try:
        return date.fromisoformat(value[:10])
    except ValueError:
        return None
