"""The models at hand: what a name means, and whether a model takes what is asked of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from mcp_server_claude.anthropic_api.models.model_capabilities import Model, is_id, undated
from mcp_server_claude.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Source: TypeAlias = Literal["api", "disk", "file"]
"""Where a list came from: the API now, the API within a day (or longer, while it cannot be reached), our data file."""

SHOWN = 60
UNSHOWN = re.compile(r"[^A-Za-z0-9._@-]")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The models, newest first, with where they came from and of which day they are (`YYYY-MM-DD`)."""

    models: tuple[Model, ...]
    source: Source
    as_of: str

    @classmethod
    def of(cls, models: Iterable[Model], source: Source, as_of: str) -> Catalogue:
        """The same models in their order: newest first, equal days by id."""
        return cls(tuple(sorted(models, key=lambda each: (-each.created.toordinal(), each.id))), source, as_of)

    def on(self, name: Callable[[str], str], lacks: Callable[[str], frozenset[str]]) -> Catalogue:
        """The same models as a platform has them: under its names, without what it lacks for each."""
        renamed = (replace(each, id=name(each.id), alias=each.id) for each in self.models)
        return Catalogue(tuple(each.without(lacks(each.id)) for each in renamed), self.source, self.as_of)

    @property
    def authoritative(self) -> bool:
        """Whether a name that is not listed does not exist. Our own file knows nothing of a gateway's names."""
        return self.source != "file"

    def resolve(self, name: str, default: str = "sonnet") -> Model:
        """The model that `name` means: an exact id, the id without its date, or a line (its newest active model).

        An empty name means `default`. Where the list is not authoritative, any other id is passed on as it is.

        Raises:
            Refused: There is no such model, or it is retired; with the nearest names or the successor.
        """
        wanted = name.strip() or default.strip()
        model = self._exact(wanted) or self._alias(wanted) or self.newest(wanted.lower())
        if model is None:
            if self.authoritative or not is_id(wanted):
                raise Refused(self._unknown(wanted, configured=not name.strip()), kind="unknown_model")
            return Model(id=wanted, known=False)
        if model.lifecycle == "retired" and self.authoritative:
            successor = self.newest(model.line)
            hint = f" Its successor is {successor.id}." if successor and successor is not model else ""
            raise Refused(f"{model.note}{hint}", kind="retired_model")
        return model

    def newest(self, line: str) -> Model | None:
        """The newest active model of a line; the newest that can still be asked when none is active."""
        members = [each for each in self.models if line and each.line == line and each.lifecycle != "retired"]
        return next((each for each in members if each.lifecycle == "active"), next(iter(members), None))

    def names_for_menu(self) -> tuple[str, ...]:
        """The ids that can be asked, newest first."""
        return tuple(each.id for each in self.models if each.lifecycle != "retired")

    def _exact(self, wanted: str) -> Model | None:
        return next((each for each in self.models if each.id.lower() == wanted.lower()), None)

    def _alias(self, wanted: str) -> Model | None:
        lower = wanted.lower()
        return next(
            (m for m in self.models if lower in {m.alias, undated(m.alias), undated(m.id).lower()} - {""}), None
        )

    def _unknown(self, wanted: str, *, configured: bool) -> str:
        import difflib

        names = self.names_for_menu()
        lines = tuple(dict.fromkeys(each.line for each in self.models if each.line and each.lifecycle != "retired"))
        near = difflib.get_close_matches(wanted[:SHOWN].lower(), [*names, *lines], n=3, cutoff=0.5)
        which = " (the configured default)" if configured else ""
        hint = f"; nearest: {', '.join(near)}" if near else f"; there are {', '.join((lines or names)[:8])}"
        return f"There is no model named {_shown(wanted)}{which}{hint if names else ''}."


def admit(model: Model, *, effort: str = "", max_tokens: int = 0, tools: Sequence[str] = ()) -> None:
    """Check a call against what its model takes, before anything is sent. Nothing is known of an unknown model.

    Raises:
        Refused: With what the model can do.
    """
    if not model.known:
        return
    if "web" in tools and not model.web_search:
        raise Refused(f"{model.id} cannot search the web{_instead(model)}.", kind="unsupported")
    if "code" in tools and not model.code_execution:
        raise Refused(f"{model.id} cannot run code{_instead(model)}.", kind="unsupported")
    if effort and effort not in model.efforts:
        if not model.efforts:
            raise Refused(f"{model.id} takes no effort.", kind="unsupported")
        raise Refused(f"{model.id} takes effort {_or(model.efforts)}.", kind="unsupported")
    if model.max_output and max_tokens > model.max_output:
        raise Refused(
            f"{model.id} writes at most {model.max_output:,} tokens; max_tokens was {max_tokens:,}.", kind="unsupported"
        )


def _instead(model: Model) -> str:
    """What tools a model has that cannot have all."""
    able = [name for name, can in (("web", model.web_search), ("code", model.code_execution)) if can]
    return f"; its tools are {', '.join([*able, 'read'])}" if able else "; its only tool is read"


def _or(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(value: str) -> str:
    """A caller's value, short and plain enough to be repeated in an error."""
    plain = UNSHOWN.sub("?", value[:SHOWN])
    return f"'{plain}…'" if len(value) > SHOWN else f"'{plain}'"
