"""English Markdown made from a prompt: readable, deterministic, and different for different prompts."""

from __future__ import annotations

import random
import re
from functools import lru_cache
from hashlib import sha256
from itertools import chain, count, groupby
from typing import TYPE_CHECKING

from mcp_server_claude.simulator.token_counting import CHARS_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

MIN_ANSWER_CHARS, MAX_ANSWER_CHARS = 480, 960
MAX_QUOTED_WORDS = 8
MAX_QUOTED_CHARS = 60
MIN_TOPIC_CHARS = 4
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")

INTROS = (
    "Here is how I would look at it.",
    "The short version comes first, the reasons after it.",
    "There is a simple answer and a careful one; this is the careful one, kept brief.",
    "Let me take it in three steps: what it is, what decides it, and what to do next.",
    "It helps to separate what we know from what we assume.",
)
SENTENCES = (
    "The part that matters most is {a}, because everything else follows from it.",
    "Most of the confusion comes from treating {a} and {b} as one thing; they answer different questions.",
    "If you only change one thing, change how {a} is handled and leave {b} alone.",
    "A small example makes it concrete: take {a}, remove what is optional, and see whether {b} still holds.",
    "Nothing here is urgent, but {a} gets harder to change the longer it waits.",
    "I would measure {a} before deciding anything about {b} — guesses are usually off by a factor of two.",
    "People who know {b} well tend to start from the edge cases; that works for {a} too.",
    "The usual advice about {a} is right in general and wrong in this case.",
    "What looks like a problem with {a} is often a question about who owns {b}.",
    "It is cheap to try: an hour with {a} tells you more than a week of discussion about {b}.",
    "Keep the old way next to the new one until {a} has been right for a while.",
    "There is a trade-off: the more general {a} becomes, the harder {b} is to explain.",
)
BULLETS = (
    "**{A}**: decide what “good enough” means before you start.",
    "**{A}**: write down the one case that must never fail.",
    "**{A}**: keep it as plain as it can be, and no plainer.",
    "**{A}**: ask who reads the result, and when.",
    "**{A}**: the default should be the safe choice.",
    "**{A}**: check it against {b}, not against intuition.",
    "**{A}**: small steps, each of which can be undone.",
    "**{A}**: prefer what you can test to what you can argue.",
)
HEADINGS = ("What matters", "In practice", "Things to check", "A way forward", "Where it usually goes wrong")
CLOSINGS = (
    "If you tell me more about {a}, I can be more specific.",
    "I would start with {a} today and come back to {b} once that works.",
    "In one sentence: get {a} right, and {b} becomes a detail.",
    "Say the word and I will turn this into a concrete plan for {a}.",
)
STOP_WORDS = frozenset(
    """
    about above after again against please would could should there their these those which while where when what with
    without within from into that this then than them they have been being does doing your yours write explain give tell
    make just only some more most very also using used between through because
    """.split()  # noqa: SIM905 - words read better than a list of them
)


@lru_cache(maxsize=32)
def generate_answer(
    prompt: str, *, system: str = "", turn_number: int = 1, tool_result: str = "", tokens: int | None = None
) -> str:
    """The answer to a prompt, 120 to 240 tokens long, or exactly `tokens`."""
    chance = random.Random(
        sha256("\0".join((prompt, system, str(turn_number), tool_result)).encode("utf-8", "replace")).digest()
    )
    if tokens is None:
        return _generate_to_length(prompt, turn_number, tool_result, chance)
    target_chars = tokens * CHARS_PER_TOKEN
    if not target_chars:
        return ""
    whole: list[str] = []
    size = 0
    for piece in _endless_text(prompt, turn_number, tool_result, chance):
        whole.append(piece)
        size += len(piece)
        if size >= target_chars:
            break
    return "".join(whole)[: target_chars - 1].rstrip() + "."


def generate_thinking(prompt: str, *, tokens: int) -> str:
    """Thinking about a prompt, exactly `tokens` long."""
    opening = f"The user writes {_quote_opening(prompt)}. Let me think about what is really asked. "
    thought = generate_answer(f"thinking about {prompt}", tokens=tokens)
    return (opening + thought)[: tokens * CHARS_PER_TOKEN]


def _generate_to_length(prompt: str, turn_number: int, tool_result: str, random_source: random.Random) -> str:
    target_chars = random_source.randint(MIN_ANSWER_CHARS, MAX_ANSWER_CHARS)
    pieces = _endless_text(prompt, turn_number, tool_result, random_source)
    whole = ""
    while len(whole) < target_chars:
        whole += next(pieces)
    return f"{whole.rstrip()}\n\n{_fill_template(random_source.choice(CLOSINGS), _topics(prompt), random_source)}"


def _endless_text(prompt: str, turn_number: int, tool_result: str, random_source: random.Random) -> Iterator[str]:
    """An opening, then sections of sentences and bullets, without end."""
    topics = _topics(prompt)
    return chain(_opening(prompt, turn_number, tool_result, random_source), _sections(topics, random_source))


def _opening(prompt: str, turn_number: int, tool_result: str, random_source: random.Random) -> Iterator[str]:
    again = (
        ""
        if turn_number == 1
        else f", in the {ORDINALS[turn_number - 1] if turn_number <= len(ORDINALS) else f'{turn_number}th'} turn"
    )
    yield f"You asked{again}: {_quote_opening(prompt)}. "
    if tool_result:
        yield f"The tool answered: {_quote_opening(tool_result)}. "
    yield f"{random_source.choice(INTROS)}\n\n"


def _sections(topics: tuple[str, ...], random_source: random.Random) -> Iterator[str]:
    for number in count():
        yield " ".join(
            _fill_template(sentence, topics, random_source) for sentence in random_source.sample(SENTENCES, 2)
        )
        heading = HEADINGS[(number + random_source.randrange(2)) % len(HEADINGS)]
        yield f"\n\n### {heading}\n\n"
        for bullet in random_source.sample(BULLETS, 3):
            yield f"- {_fill_template(bullet, topics, random_source)}\n"
        yield "\n"


def _fill_template(template: str, topics: tuple[str, ...], random_source: random.Random) -> str:
    a, b = random_source.sample(topics, 2)
    return template.format(a=a, A=a[:1].upper() + a[1:], b=b)


def _topics(prompt: str) -> tuple[str, ...]:
    """The telling words of a prompt, with a few that always fit."""
    phrases: list[str] = []
    for clause in re.split(r"[^\w\s'-]+|\d+", prompt[:4000]):
        words = ["" if word.lower() in STOP_WORDS or len(word) < MIN_TOPIC_CHARS else word for word in clause.split()]
        phrases += [" ".join(run[:3]) for telling, run in _word_runs(words) if telling]
    found = tuple(dict.fromkeys(phrases))[:8]
    return (*found, *(word for word in ("the goal", "the details", "the cost", "the reader") if word not in found))


def _word_runs(words: list[str]) -> Iterator[tuple[bool, list[str]]]:
    """Neighbouring telling words, and the gaps between them."""
    return ((telling, list(run)) for telling, run in groupby(words, key=bool))


def _quote_opening(words: str) -> str:
    """The opening words, in quotation marks."""
    parts = words.split()
    opening = " ".join(parts[:MAX_QUOTED_WORDS])
    cut = len(parts) > MAX_QUOTED_WORDS or len(opening) > MAX_QUOTED_CHARS
    return f"“{opening[:MAX_QUOTED_CHARS].rstrip()}{'…' if cut else ''}”"
