"""What the chaos suite asks: calls made by chance from a seed, so that a failure can be had again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mcp_server_claude.simulator import directive

if TYPE_CHECKING:
    from collections.abc import Iterator

Expected = Literal["complete", "refused", "any"]
Keys = dict[str, Any]

MODELS = ("claude-haiku-4-5", "claude-opus-4-5", "claude-sonnet-4-6", "claude-opus-5-5", "sonnet", "haiku", "opus")
STREAM_FAULTS = ("drop", "fin", "eof", "error", "malformed", "badindex", "badutf8")
RESUMABLE_FAULTS = ("drop", "fin", "eof", "error")
"""Faults after which trying again helps whatever came before; `badindex` breaks nothing, and the others count as a
garbled stream."""
RETRYABLE_STATUSES = (408, 409, 429, 500, 502, 503, 504, 529)
FATAL_STATUSES = (400, 401, 402, 403, 404, 413)
WORDS = (
    *("tea", "coffee", "the", "of", "and", "mountain", "slowly", "river", "Übung", "naïve", "façade", "σίγμα"),
    *("東京", "🍵", "👩‍👩‍👧‍👦", "e\u0301", "\u00a0", "мир", "שלום", "code", "—", "…"),
)
MIN_CHARS, MAX_CHARS = 6, 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """One call. `text` is all that the upstream would say; empty where it says what it likes."""

    number: int
    prompt: str
    label: str
    arguments: Keys = field(default_factory=dict[str, Any])
    text: str = ""
    cancel_after_s: float | None = None
    expected: Expected = "any"

    @property
    def marker(self) -> str:
        """What the prompt begins with."""
        return call_marker(self.number)

    def __str__(self) -> str:
        cancel = "" if self.cancel_after_s is None else f", cancelled after {self.cancel_after_s:.3f} s"
        return f"call {self.number}: {self.label} {self.arguments}{cancel}, {len(self.text)} characters"


def call_marker(number: int) -> str:
    return f"Call #{number:05d}."


def random_plans(seed: int, count: int, *, first: int = 0, cancels: bool = True, slow: bool = True) -> list[CallPlan]:
    """`count` calls, the same for the same seed."""
    chance = random.Random(seed)
    return [_random_plan(chance, first + number, cancels=cancels, slow=slow) for number in range(count)]


def _random_plan(chance: random.Random, number: int, *, cancels: bool, slow: bool) -> CallPlan:
    if chance.random() < 0.04:
        return _rejected_plan(chance, number)
    text, unique = _random_text(chance)
    keys: Keys = {"pace": chance.choice((0, 0, 0, 600, 2_000, 6_000))}
    if chance.random() < 0.3:
        keys["chars"] = chance.choice((1, 3, 40, 400))
        if keys["chars"] == 1:
            text = text[:600]
    if chance.random() < 0.3:
        keys["think"] = chance.choice((0, 5, 60))
    if chance.random() < 0.1:
        keys["split"] = "surrogates"
    if unique and chance.random() < 0.15:
        keys["anchor"] = "off"
    arguments: Keys = {"model": chance.choice(MODELS)}
    if chance.random() < 0.2:
        arguments["max_tokens"] = chance.choice((1, 7, 50, 300, 1_000))
    wrong, expected, own = _random_fault(chance, len(text), slow=slow)
    keys |= wrong
    cancel = chance.random() ** 2 * 1.5 if cancels and chance.random() < 0.12 else None
    spoken = not own
    prompt = f"{call_marker(number)} {directive(text=text, **keys) if spoken else directive(**keys)}"
    certain = cancel is None and "max_tokens" not in arguments and text.strip()
    return CallPlan(
        number=number,
        prompt=prompt,
        label=" ".join(f"{name}={value}" for name, value in keys.items()),
        arguments=arguments,
        text=text if spoken else "",
        cancel_after_s=cancel,
        expected=expected if certain else "any",
    )


def _rejected_plan(chance: random.Random, number: int) -> CallPlan:
    arguments: Keys = chance.choice(
        ({"model": "claude-nobody-1"}, {"model": "sonnet", "max_tokens": 10_000_000}, {"temperature": 1.0})
    )
    return CallPlan(number=number, prompt=call_marker(number), label="refused", arguments=arguments, expected="refused")


def _random_fault(chance: random.Random, length: int, *, slow: bool) -> tuple[Keys, Expected, bool]:
    """A fault's keys, the required outcome of the call, and whether the answer's text is that of the fault."""
    dice = chance.random()
    times = chance.choice((1, 1, 1, 2, 2, 3))
    place = _fault_position(chance, length)
    if dice < 0.22:
        return {}, "complete", False
    if dice < 0.62:
        keys: Keys = {"fault": chance.choice((*STREAM_FAULTS, *RESUMABLE_FAULTS)), **place}
        if chance.random() < 0.08:
            return keys, "any", False  # always, so that it has to be given up, or is won in small steps
        return {**keys, "times": times}, "complete" if times == 1 else "any", False
    if dice < 0.72:
        status = chance.choice(RETRYABLE_STATUSES)
        more: Keys = {"retry-after-ms": chance.choice((1, 20, 150))} if chance.random() < 0.5 else {}
        return {"fault": "status", "status": status, "times": times, **more}, "complete" if times == 1 else "any", False
    if dice < 0.76:
        return {"fault": "status", "status": chance.choice(FATAL_STATUSES)}, "any", False
    if dice < 0.80:
        return {"fault": chance.choice(("html", "json", "redirect", "spend_limit"))}, "any", False
    if dice < 0.84:
        fault = chance.choice(("gzip", "nostop", "empty"))
        return ({"fault": fault} | ({"times": 1} if fault == "empty" else {})), "complete", False
    if dice < 0.90:
        if not slow:
            return {}, "complete", False
        fault = chance.choice(("stall", "stall", "noevents"))
        where = place if fault == "stall" else {}
        pings: Keys = {"pings": "on"} if fault == "stall" and chance.random() < 0.3 else {}
        return {"fault": fault, "times": 1, **where, **pings}, "any", False
    if dice < 0.91:
        fault = chance.choice(("huge", "tiny", "tiny"))
        return {"fault": fault, "pace": 0, "chars": 0, "think": 0}, "any", True
    if dice < 0.93:
        return {"stop": "pause_turn", "times": chance.choice((1, 2))}, "any", False
    reason = chance.choice(("max_tokens", "refusal", "model_context_window_exceeded", "stop_sequence", "tool_use"))
    return {"stop": reason, **({} if "at" not in place or place["at"] == "headers" else place)}, "any", False


def _fault_position(chance: random.Random, length: int) -> Keys:
    """Before the stream, at its first character, in the middle, just before or at its end."""
    match chance.randrange(8):
        case 0:
            return {"at": "headers"}
        case 1:
            return {"at": 0}
        case 2:
            return {"at": max(0, length - 1)}
        case 3:
            return {"at": length}
        case 4:
            return {"at": 41}
        case 5:
            return {}
        case _:
            return {"at": chance.randrange(max(1, length))}


# --------------------------------------------------------------------- answers


def _random_text(chance: random.Random) -> tuple[str, bool]:
    """An answer, and whether forty characters of it occur only once."""
    size = round(MIN_CHARS * (MAX_CHARS / MIN_CHARS) ** chance.random())
    kind = chance.choice((_prose, _prose, _table, _code, _repeated, _blank))
    text = "".join(_take_chars(kind(chance), size))
    if chance.random() < 0.15:
        text = chance.choice(("\n", "  ", "\n\n  ")) + text
    if chance.random() < 0.25:
        text += chance.choice(("\n", "\n\n", "   ", "\n```\n"))
    return text, kind is _prose


def _take_chars(pieces: Iterator[str], size: int) -> Iterator[str]:
    while size > 0:
        piece = next(pieces)
        size -= len(piece)
        yield piece


def _prose(chance: random.Random) -> Iterator[str]:
    count = 0
    while True:
        count += 1
        yield f"{count}. " + " ".join(chance.choice(WORDS) for _ in range(chance.randrange(3, 12))) + ".\n"


def _table(chance: random.Random) -> Iterator[str]:
    yield "| a | b | c |\n| --- | --- | --- |\n"
    while True:
        yield f"| {chance.choice(WORDS)} | {chance.choice((0, 1))} | {chance.choice(WORDS)} |\n"


def _code(chance: random.Random) -> Iterator[str]:
    yield "```python\n"
    while True:
        yield chance.choice(
            ("    return 0\n", "        x += 1\n", "\n", "def f(x):\n", "    if x:\n", "\t}\n", "'\\n'")
        )


def _repeated(chance: random.Random) -> Iterator[str]:
    line = chance.choice(
        ("-", "=", "abc ", "| 0 | 0 |\n", "        \n", "the same line, over and over again, as it is\n")
    )
    while True:
        yield line


def _blank(chance: random.Random) -> Iterator[str]:
    while True:
        yield chance.choice(WORDS)
        yield chance.choice((" " * 50, "\n" * 45, " \n \n", "\t" * 41))
