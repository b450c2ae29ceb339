"""One model and what it accepts, read from an entry of `GET /v1/models` (`anthropic.types.ModelInfo`, SDK 2.14).

A capability that an entry does not mention is taken as supported: the API's refusal is better than a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Literal, TypeAlias, TypeGuard, cast

from mcp_server_claude.frozen_dataclass import frozen_dataclass

Lifecycle: TypeAlias = Literal["active", "deprecated", "retired"]
EFFORT_LEVELS = ("low", "medium", "high", "xhigh", "max")
"""The effort levels known today, ascending. A model may have others; they follow these."""

UNKNOWN_DATE = date(1970, 1, 1)
"""The `created_at` that the API itself gives when it does not know."""

MAX_ID_CHARS = 200
SNAPSHOT_DATE = re.compile(r"-\d{8}$")
MASKABLE_FEATURES = frozenset({"structured_outputs", "web_search", "code_execution", "programmatic", "batch"})
DEFAULT_MAX_TOKENS = 16_000
"""The `max_tokens` for a model whose limit is unknown: the API requires one, and small models refuse a large one."""
FAMILY = re.compile(r"(?<![a-z])(opus|sonnet|haiku|fable|mythos)(?![a-z])", re.IGNORECASE)
"""The model line in an id such as `claude-sonnet-4-20250514`, for lists of gateways that have no `line`."""


@frozen_dataclass(kw_only=True)
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
        """The model without these features, which a platform lacks. Their names are those of the fields."""
        return replace(self, **dict.fromkeys(features & MASKABLE_FEATURES, False)) if features else self

    def max_tokens_for(self, requested: int = 0) -> int:
        """The `max_tokens` to send: the requested number, else the model's own limit."""
        return requested or self.max_output_tokens or DEFAULT_MAX_TOKENS

    @property
    def accepts_forced_tool(self) -> bool:
        """True if the model can be forced to call a tool. It cannot while it thinks (docs, "Extended thinking"), so its
        thinking must be one that can be switched off.
        """
        return not self.thinking_types or "disabled" in self.thinking_types

    @property
    def accepts_prefill(self) -> bool:
        """True if the model continues a trailing assistant message. The list does not say so, but 4.6 is both the first
        version to refuse prefill and the first to accept adaptive thinking, so one follows from the other.
        """
        return bool(self.thinking_types) and "adaptive" not in self.thinking_types

    @property
    def lifecycle_note(self) -> str:
        """A sentence about the model's retirement; empty for an active model."""
        if self.lifecycle == "active":
            return ""
        when = f" {self.retires_on:%Y-%m-%d}" if self.retires_on else ""
        if self.lifecycle == "retired":
            return f"{self.id} was retired{when}."
        return f"{self.id} is deprecated and retires{when}." if when else f"{self.id} is deprecated."


def parse_model_list(raw: object) -> list[ClaudeModel] | None:
    """The models of a page of `GET /v1/models`, or of its entries; None if it is not Anthropic's list.

    Gateways answer with nothing, a page of HTML or OpenAI's list. Entries of another shape are left out.
    """
    entries = model_entries(raw)
    models = [model for entry in entries if (model := _parse_entry(entry)) is not None]
    unique = {model.id: model for model in reversed(models)}
    return [unique[model.id] for model in models if unique[model.id] is model] or None


def model_entries(raw: object) -> list[Mapping[str, object]]:
    """The entries of a list of models, wrapped in `data` or not; empty for anything else."""
    listed = raw.get("data") if is_json_object(raw) else raw
    if not isinstance(listed, Sequence) or isinstance(listed, str | bytes):
        return []
    return [entry for entry in cast("Sequence[object]", listed) if is_json_object(entry)]


def is_json_object(value: object) -> TypeGuard[Mapping[str, object]]:
    """True for a JSON object."""
    return isinstance(value, Mapping)


def without_date(name: str) -> str:
    """The id without its snapshot's date: the alias (docs, "Model IDs and versioning")."""
    return SNAPSHOT_DATE.sub("", name)


def is_model_id(name: str) -> bool:
    """True if this can be sent as a model's id: short and printable (a lone surrogate is not)."""
    return 0 < len(name) <= MAX_ID_CHARS and name.isprintable() and name == name.strip()


def family_of(model_id: str) -> str:
    """The line that an id names, `haiku` in `vendor/claude-haiku-9`; empty if it names none."""
    found = FAMILY.search(model_id)
    return found[1].lower() if found else ""


def _parse_entry(entry: Mapping[str, object]) -> ClaudeModel | None:
    name = entry.get("id")
    # OpenAI's entries have an `object` and no `type`; that and a display name distinguish Anthropic's from others.
    if entry.get("type") != "model" or not isinstance(name, str) or not is_model_id(name):
        return None
    if not isinstance(entry.get("display_name"), str):
        return None
    lifecycle = _printable_text(entry, "lifecycle")
    can = _object_at(entry, "capabilities")
    return ClaudeModel(
        id=name,
        name=_printable_text(entry, "display_name"),
        line=_printable_text(entry, "line") or family_of(name),
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
    """The capability's `supported` flag; None if it has none."""
    supported = capability.get("supported") if is_json_object(capability) else None
    return supported if isinstance(supported, bool) else None


def _has_capability(capabilities: Mapping[str, object], *path: str) -> bool:
    """True unless the capability at `path`, or one that contains it, is marked as unsupported."""
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
