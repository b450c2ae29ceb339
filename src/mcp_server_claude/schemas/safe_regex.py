"""Regular expressions that cannot run away.

`re` backtracks: `(a+)+$` on thirty letters takes minutes, holds the interpreter and cannot be stopped. The pattern
comes from whoever calls and the text from a model, so `Pattern` answers the one question that JSON Schema asks (is
there a match anywhere?) with sets of states instead, in time linear in the text, and gives up after
`MAX_SEARCH_STEPS` steps.
"""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PATTERN_CHARS = 1_000
MAX_STATES = 1_000
MAX_BUILD_STEPS = 10_000
MAX_SEARCH_STEPS = 2_000_000

Test: TypeAlias = "Callable[[str], object]"
Build: TypeAlias = "Callable[[int], int]"
"""Makes the states of a part of the pattern: given the state that follows, returns the one that begins."""
Context: TypeAlias = tuple[bool, bool, bool, bool, bool]
"""At the start, at the end, before a last line break, after a word character, before one: what anchors look at."""

ANCHORS: dict[str, Callable[[Context], bool]] = {
    "^": lambda seen: seen[0],
    r"\A": lambda seen: seen[0],
    "$": lambda seen: seen[1] or seen[2],
    r"\Z": lambda seen: seen[1],
    r"\b": lambda seen: seen[3] is not seen[4],
}
_QUANTIFIER = re.compile(r"[*+?]|\{(?=[\d,])(\d*)(,?)(\d*)\}")
_GROUP = re.compile(r"\((?:\?:|\?P<\w+>)?(?!\?)")
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|[^\dB])", re.DOTALL)


class UnsafeError(ValueError):
    """The pattern needs backtracking, or is too large."""


class TooHardError(ValueError):
    """A text needs more than `MAX_SEARCH_STEPS` steps."""


@lru_cache(maxsize=256)
def compile_pattern(source: str) -> Pattern:
    """The pattern, read once.

    Raises:
        UnsafeError: it is not one of Python's, or has look-around, back-references, inline flags or atomic groups.
    """
    return Pattern(source)


class Pattern:
    """A regular expression in Python's syntax, as an automaton."""

    def __init__(self, source: str) -> None:
        if len(source) > MAX_PATTERN_CHARS:
            raise UnsafeError("it is too long")
        self._tests: list[tuple[Test, int] | None] = []
        self._forks: dict[int, tuple[int, ...]] = {}
        self._anchors: dict[int, tuple[Callable[[Context], bool], int]] = {}
        self._source, self._at, self._steps = source, 0, 0
        self._end = self._state()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                re.compile(source)
                self._start = self._alternatives()(self._end)
        except (re.error, OverflowError, RecursionError):
            raise UnsafeError("it is not a regular expression") from None
        if self._at < len(source):
            raise UnsafeError("it is not a regular expression")

    def search(self, text: str) -> bool:
        """Whether the pattern matches anywhere in the text, as `re.search` would say.

        Raises:
            TooHardError: it would take too long to know.
        """
        last, now, work, before = len(text), frozenset[int](), 0, False
        seen: dict[tuple[frozenset[int], Context, str], tuple[bool, frozenset[int]]] = {}
        for at in range(last + 1):
            char = text[at : at + 1]
            after = char.isalnum() or char == "_"
            context = (at == 0, at == last, at == last - 1 and char == "\n", before, after)
            key = (now, context, char)
            found = seen.get(key)
            if found is None:
                reached = self._reach(now, context)
                work += len(reached)
                if work > MAX_SEARCH_STEPS:
                    raise TooHardError("a text is too long for its pattern")
                found = seen[key] = (self._end in reached, self._step(reached, char))
            matched, now = found
            if matched:
                return True
            before = after
        return False

    def _reach(self, now: frozenset[int], context: Context) -> set[int]:
        """Every state that can be reached without a character, from those of now and from the start."""
        reached, left = set[int](), [self._start, *now]
        while left:
            state = left.pop()
            if state in reached:
                continue
            reached.add(state)
            left.extend(self._forks.get(state, ()))
            if state in self._anchors:
                holds, after = self._anchors[state]
                if holds(context):
                    left.append(after)
        return reached

    def _step(self, reached: set[int], char: str) -> frozenset[int]:
        tests = (self._tests[state] for state in reached) if char else ()
        return frozenset(found[1] for found in tests if found and found[0](char))

    def _alternatives(self) -> Build:
        builds = [self._sequence()]
        while self._source[self._at : self._at + 1] == "|":
            self._at += 1
            builds.append(self._sequence())
        return builds[0] if len(builds) == 1 else lambda after: self._fork(*(build(after) for build in builds))

    def _sequence(self) -> Build:
        builds: list[Build] = []
        while self._at < len(self._source) and self._source[self._at] not in "|)":
            atom = self._atom()
            builds.insert(0, self._repeated(atom, *self._quantifier()))

        def build(after: int) -> int:
            for each in builds:
                after = each(after)
            return after

        return build

    def _repeated(self, atom: Build, least: int, most: int | None) -> Build:
        if (least, most) == (1, 1):
            return atom

        def build(after: int) -> int:
            begins = after
            if most is None:
                begins = self._fork(after)
                self._forks[begins] = (self._once(atom, begins), after)
            for _ in range(most - least if most is not None else 0):
                begins = self._fork(self._once(atom, begins), after)
            for _ in range(least):
                begins = self._once(atom, begins)
            return begins

        return build

    def _once(self, atom: Build, after: int) -> int:
        self._steps += 1
        if self._steps > MAX_BUILD_STEPS:
            raise UnsafeError("it is too large")
        return atom(after)

    def _quantifier(self) -> tuple[int, int | None]:
        found = _QUANTIFIER.match(self._source, self._at)
        if not found:
            return 1, 1
        self._at = found.end()
        if self._source[self._at : self._at + 1] == "+":
            raise UnsafeError("it has a possessive quantifier")
        if self._source[self._at : self._at + 1] == "?":
            self._at += 1
        match found[0]:
            case "*":
                return 0, None
            case "+":
                return 1, None
            case "?":
                return 0, 1
            case _:
                least = int(found[1] or 0)
                return least, least if not found[2] else int(found[3]) if found[3] else None

    def _atom(self) -> Build:
        source, at = self._source, self._at
        for anchor, holds in ANCHORS.items():
            if source.startswith(anchor, at):
                self._at += len(anchor)
                return lambda after: self._anchor(holds, after)
        char = source[at]
        if char == "(":
            found = _GROUP.match(source, at)
            if not found:
                raise UnsafeError("it has look-around, a back-reference, flags or a comment")
            self._at = found.end()
            inner = self._alternatives()
            self._at += 1
            return inner
        if char in "[\\":
            found = (_CLASS if char == "[" else _ESCAPE).match(source, at)
            if not found:
                raise UnsafeError("it has a back-reference or an octal escape")
            self._at = found.end()
            test: Test = re.compile(found[0]).fullmatch
        else:
            self._at += 1
            test = "\n".__ne__ if char == "." else char.__eq__
        return lambda after: self._state((test, after))

    def _anchor(self, holds: Callable[[Context], bool], after: int) -> int:
        state = self._state()
        self._anchors[state] = (holds, after)
        return state

    def _fork(self, *after: int) -> int:
        state = self._state()
        self._forks[state] = after
        return state

    def _state(self, test: tuple[Test, int] | None = None) -> int:
        if len(self._tests) >= MAX_STATES:
            raise UnsafeError("it is too large")
        self._tests.append(test)
        return len(self._tests) - 1
