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
EFFORTS = ("low", "medium", "high", "xhigh", "max")
"""The efforts known today, ascending. A model may come with others; they follow these."""

UNKNOWN_DATE = date(1970, 1, 1)
"""What the API itself gives as `created_at` when it does not know."""

LONGEST_ID = 200
DATED = re.compile(r"-\d{8}$")
MASKED = frozenset({"structured_outputs", "web_search", "code_execution", "programmatic", "batch"})
UNKNOWN_MAX_OUTPUT = 16_000
"""The `max_tokens` for a model whose limit is unknown: the API requires one, and small models refuse a large one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model, as far as its capabilities decide what may be sent.

    `id` is what is sent. `context` and `max_output` are in tokens, 0 when unknown. `efforts` is empty when the model
    takes none. `thinking` holds the accepted values of `thinking.type`, empty when nothing is known of them.
    `web_search` and `code_execution` are the server tools, `programmatic` says that code which the model runs may call
    the others, as their newest versions do to filter what they found. `known` is False for an id that is only passed
    on. `alias` is what Anthropic calls the model, where it is asked on a platform that calls it something else.
    """

    id: str
    name: str = ""
    line: str = ""
    lifecycle: Lifecycle = "active"
    created: date = UNKNOWN_DATE
    retires: date | None = None
    context: int = 0
    max_output: int = 0
    efforts: tuple[str, ...] = EFFORTS
    thinking: frozenset[str] = frozenset()
    images: bool = True
    pdf: bool = True
    citations: bool = True
    structured_outputs: bool = True
    web_search: bool = True
    code_execution: bool = True
    programmatic: bool = False
    batch: bool = True
    known: bool = True
    alias: str = ""

    def without(self, features: frozenset[str]) -> Model:
        """The model where these are not to be had, e.g. on a platform (their names are those of the fields)."""
        return replace(self, **dict.fromkeys(features & MASKED, False)) if features else self

    def tokens(self, asked: int = 0) -> int:
        """The `max_tokens` to send: what was asked for, else the model's own limit."""
        return asked or self.max_output or UNKNOWN_MAX_OUTPUT

    @property
    def takes_forced_tool(self) -> bool:
        """Whether it can be made to call a tool: not while it thinks (docs, "Extended thinking"), so that its thinking
        must be one that can be switched off.
        """
        return not self.thinking or "disabled" in self.thinking

    @property
    def prefill(self) -> bool:
        """Whether a trailing assistant message is continued. The list does not say; but 4.6 is both the first version
        to refuse prefill and the first to accept adaptive thinking (SDK facts §3, §7), so one tells the other.
        """
        return bool(self.thinking) and "adaptive" not in self.thinking

    @property
    def note(self) -> str:
        """A sentence for whoever uses a model that is going away, else empty."""
        if self.lifecycle == "active":
            return ""
        when = f" {self.retires:%Y-%m-%d}" if self.retires else ""
        if self.lifecycle == "retired":
            return f"{self.id} was retired{when}."
        return f"{self.id} is deprecated and retires{when}." if when else f"{self.id} is deprecated."


def parse(raw: object) -> list[Model] | None:
    """The models of a page of `GET /v1/models`, or of its entries; None when it is not Anthropic's list.

    Gateways answer with nothing, a page of HTML or OpenAI's list; entries of another shape are left out.
    """
    entries = entries_of(raw)
    models = [model for entry in entries if (model := _model(entry)) is not None]
    unique = {model.id: model for model in reversed(models)}
    return [unique[model.id] for model in models if unique[model.id] is model] or None


def entries_of(raw: object) -> list[Mapping[str, object]]:
    """The entries of a list of models, in whatever it is wrapped; none when there are none."""
    listed = raw.get("data") if is_mapping(raw) else raw
    if not isinstance(listed, Sequence) or isinstance(listed, str | bytes):
        return []
    return [entry for entry in cast("Sequence[object]", listed) if is_mapping(entry)]


def is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    """Whether this is a JSON object."""
    return isinstance(value, Mapping)


def undated(name: str) -> str:
    """The id without its snapshot's date: the alias (docs, "Model IDs and versioning")."""
    return DATED.sub("", name)


def is_id(name: str) -> bool:
    """Whether this can be sent as a model's id at all: short and printable (a lone surrogate is not)."""
    return 0 < len(name) <= LONGEST_ID and name.isprintable() and name == name.strip()


def _model(entry: Mapping[str, object]) -> Model | None:
    name = entry.get("id")
    # OpenAI's entries have an `object` and no `type`; that and a display name tell Anthropic's from others.
    if entry.get("type") != "model" or not isinstance(name, str) or not is_id(name):
        return None
    if not isinstance(entry.get("display_name"), str):
        return None
    lifecycle = _text(entry, "lifecycle")
    can = _part(entry, "capabilities")
    return Model(
        id=name,
        name=_text(entry, "display_name"),
        line=_text(entry, "line"),
        lifecycle=lifecycle if lifecycle == "deprecated" or lifecycle == "retired" else "active",  # noqa: PLR1714 - narrows
        created=_date(entry.get("created_at")) or UNKNOWN_DATE,
        retires=_date(entry.get("retires_at")),
        context=_count(entry.get("max_input_tokens")),
        max_output=_count(entry.get("max_tokens")),
        efforts=_efforts(can),
        thinking=_thinking(can),
        images=_can(can, "image_input"),
        pdf=_can(can, "pdf_input"),
        citations=_can(can, "citations"),
        structured_outputs=_can(can, "structured_outputs"),
        web_search=_can(can, "server_tools", "web_search"),
        code_execution=_can(can, "server_tools", "code_execution"),
        programmatic=_says(can.get("code_execution")) is True,
        batch=_can(can, "batch"),
    )


def _part(whole: Mapping[str, object], key: str) -> Mapping[str, object]:
    part = whole.get(key)
    return part if is_mapping(part) else {}


def _says(capability: object) -> bool | None:
    """What a capability says of itself, None when it says nothing."""
    supported = capability.get("supported") if is_mapping(capability) else None
    return supported if isinstance(supported, bool) else None


def _can(capabilities: Mapping[str, object], *path: str) -> bool:
    """Whether the capability at `path` is there: a part is not when the whole is not."""
    here: object = capabilities
    for step in path:
        here = here.get(step) if is_mapping(here) else None
        if _says(here) is False:
            return False
    return True


def _efforts(capabilities: Mapping[str, object]) -> tuple[str, ...]:
    effort = _part(capabilities, "effort")
    if _says(effort) is False:
        return ()
    accepted = [level for level in effort if level != "supported" and _says(effort[level])]
    ordered = [level for level in EFFORTS if level in accepted]
    return (*ordered, *(level for level in accepted if level not in EFFORTS)) or EFFORTS


def _thinking(capabilities: Mapping[str, object]) -> frozenset[str]:
    types = _part(_part(capabilities, "thinking"), "types")
    return frozenset(kind for kind, capability in types.items() if _says(capability))


def _text(entry: Mapping[str, object], key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) and value.isprintable() else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _date(value: object) -> date | None:
    if not isinstance(value, str):
        return None
    try:
        return date.fromisoformat(value[:10])
    except ValueError:
        return None
