"""Names of models: which model a name means, and whether that model accepts a call."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

from mcp_server_claude.anthropic_api.models.model_capabilities import ClaudeModel, family_of, is_model_id, without_date
from mcp_server_claude.errors import RequestError
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.name_suggestions import similar_names
from mcp_server_claude.redaction import holds_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import date

CatalogSource: TypeAlias = Literal["api", "disk", "file"]
"""The origin of a list: the API now, the API earlier (on disk), or the bundled file."""

MAX_QUOTED_CHARS = 60
UNSAFE_CHARACTERS = re.compile(r"://|[^\w.@/:-]")
"""A name of a gateway has slashes and colons; an address is not repeated, since clients make a link of it. Letters and
digits of any script are shown as they were typed, and so are marks on them (`_quote_character`)."""
INVISIBLE_MARKS = re.compile("[\u034f\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Marks that change nothing one can see (Unicode, Default_Ignorable_Code_Point)."""


@frozen_dataclass()
class ModelCatalog:
    """The models, newest first, with the origin and the day (`YYYY-MM-DD`) of the list."""

    models: tuple[ClaudeModel, ...]
    source: CatalogSource
    as_of: str

    @classmethod
    def newest_first(cls, models: Iterable[ClaudeModel], source: CatalogSource, as_of: str) -> ModelCatalog:
        """The catalog of these models, sorted: newest first, equal days by id."""
        return cls(tuple(sorted(models, key=lambda each: (-each.created_on.toordinal(), each.id))), source, as_of)

    def for_platform(
        self, platform_model_id: Callable[[str], str], unsupported_for: Callable[[str], frozenset[str]]
    ) -> ModelCatalog:
        """The catalog of a platform: its ids, and each model without the features that it lacks there."""
        renamed = (replace(each, id=platform_model_id(each.id), anthropic_id=each.id) for each in self.models)
        return ModelCatalog(
            tuple(each.without_features(unsupported_for(each.id)) for each in renamed), self.source, self.as_of
        )

    def on_day(self, day: date) -> ModelCatalog:
        """The catalog as of a later day: models whose day of retirement has come are retired."""
        models = tuple(
            replace(each, lifecycle="retired")
            if each.lifecycle == "deprecated" and each.retires_on is not None and each.retires_on <= day
            else each
            for each in self.models
        )
        return self if models == self.models else replace(self, models=models)

    @property
    def is_authoritative(self) -> bool:
        """True if a name that is not listed does not exist. The bundled file knows nothing of a gateway's names."""
        return self.source != "file"

    def resolve_model(self, name: str, default: str = "sonnet") -> ClaudeModel:
        """The model that `name` means: an exact id, the id without its date, or a line (its newest active model).

        An empty name means `default`. If the list is not authoritative, any other id is passed on as it is.

        Raises:
            RequestError: There is no such model, or it is retired; the message gives the nearest names or the
                successor.
        """
        model_name = name.strip() or default.strip()
        if holds_key(model_name):
            raise RequestError(
                "model contains what looks like an API key. Put the key in MCP_CLAUDE_API_KEY; this one is leaked.",
                kind="unknown_model",
            )
        model = self._models_by_name.get(model_name.lower())
        if model is None:
            if self.is_authoritative or not is_model_id(model_name):
                raise RequestError(
                    self._unknown_model_message(model_name, is_default=not name.strip()), kind="unknown_model"
                )
            return ClaudeModel(id=model_name, is_listed=False)
        if model.lifecycle == "retired" and self.is_authoritative:
            raise RequestError(self.retirement_note(model), kind="retired_model")
        return model

    def model_of_id(self, model_id: str) -> ClaudeModel:
        """The model of an exact id, also a retired one. Of one that is not listed (any more) only the id is known."""
        return self._by_exact_id(model_id) or ClaudeModel(id=model_id, line=family_of(model_id), is_listed=False)

    def retirement_note(self, model: ClaudeModel) -> str:
        """A sentence about the model's retirement, and one that names its successor; empty for an active model."""
        successor = self.newest_in_line(model.line)
        if not model.lifecycle_note or successor is None or successor.id == model.id:
            return model.lifecycle_note
        return f"{model.lifecycle_note} Its successor is {successor.id}."

    def newest_in_line(self, line: str) -> ClaudeModel | None:
        """The newest active model of a line; if none is active, the newest that is not retired."""
        members = [each for each in self.callable_models if line and each.line == line]
        return next((each for each in members if each.lifecycle == "active"), next(iter(members), None))

    @property
    def callable_models(self) -> tuple[ClaudeModel, ...]:
        """The models that are not retired, newest first: those that lists of models show and count."""
        return tuple(each for each in self.models if each.lifecycle != "retired")

    def callable_ids(self) -> tuple[str, ...]:
        """The ids of the models that are not retired, newest first."""
        return tuple(each.id for each in self.callable_models)

    def callable_lines(self) -> tuple[str, ...]:
        """The lines of the models that are not retired, that of the newest model first."""
        return tuple(dict.fromkeys(each.line for each in self.callable_models if each.line))

    def _by_exact_id(self, model_name: str) -> ClaudeModel | None:
        return next((each for each in self.models if each.id.lower() == model_name.lower()), None)

    @cached_property
    def _models_by_name(self) -> dict[str, ClaudeModel]:
        """The models by name in small letters: an exact id, else an alias, else the newest of a line."""
        by_name: dict[str, ClaudeModel] = {}
        for model in self.models:
            by_name.setdefault(model.id.lower(), model)
        for model in self.models:
            for alias in (model.anthropic_id, without_date(model.anthropic_id), without_date(model.id).lower()):
                by_name.setdefault(alias, model)
        for model in self.models:
            if (newest := self.newest_in_line(model.line)) is not None:
                by_name.setdefault(model.line, newest)
        by_name.pop("", None)
        return by_name

    def _unknown_model_message(self, model_name: str, *, is_default: bool) -> str:
        names = self.callable_ids()
        lines = self.callable_lines()
        near = similar_names(model_name[:MAX_QUOTED_CHARS].lower(), [*names, *lines], limit=3, cutoff=0.5)
        which = " (the default, MCP_CLAUDE_MODEL)" if is_default else ""
        hint = f"; nearest: {', '.join(near)}" if near else f"; there are {', '.join((lines or names)[:8])}"
        return f"There is no model named {_quote_value(model_name)}{which}{hint if names else ''}."


def check_model_accepts(
    model: ClaudeModel, *, effort: str = "", max_tokens: int = 0, tools: Sequence[str] = ()
) -> None:
    """Check that a model accepts a call, before anything is sent. A model that is not listed accepts everything.

    Raises:
        RequestError: It does not; the message says what the model accepts.
    """
    if not model.is_listed:
        return
    if "web" in tools and not model.web_search:
        raise RequestError(f"{model.id} cannot search the web{_tools_hint(model)}.", kind="unsupported")
    if "code" in tools and not model.code_execution:
        raise RequestError(f"{model.id} cannot run code{_tools_hint(model)}.", kind="unsupported")
    if effort and effort not in model.efforts:
        if not model.efforts:
            raise RequestError(f"{model.id} does not support effort.", kind="unsupported")
        raise RequestError(f"{model.id} supports effort {_join_with_or(model.efforts)}.", kind="unsupported")
    if model.max_output_tokens and max_tokens > model.max_output_tokens:
        raise RequestError(
            f"{model.id} writes at most {model.max_output_tokens:,} tokens; max_tokens was {max_tokens:,}.",
            kind="unsupported",
        )


def _tools_hint(model: ClaudeModel) -> str:
    """The tools that the model has, as the end of a sentence."""
    able = [name for name, can in (("web", model.web_search), ("code", model.code_execution)) if can]
    return f"; its tools are {', '.join([*able, 'read'])}" if able else "; its only tool is read"


def _join_with_or(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _quote_value(value: str) -> str:
    """A caller's value in quotes, short and plain enough to be repeated in an error."""
    value = unicodedata.normalize("NFC", value)  # macOS pastes accents as characters of their own
    plain = UNSAFE_CHARACTERS.sub(_quote_character, value[:MAX_QUOTED_CHARS])
    return f"'{plain}…'" if len(value) > MAX_QUOTED_CHARS else f"'{plain}'"


def _quote_character(match: re.Match[str]) -> str:
    """A mark that belongs to a letter, e.g. a vowel sign of Hindi, as it is; `?` for what is not shown."""
    character = match[0]
    is_mark = unicodedata.category(character[0]) in {"Mn", "Mc"} and not INVISIBLE_MARKS.match(character)
    return character if is_mark else "?"
