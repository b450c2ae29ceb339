from __future__ import annotations

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mcp_server_claude.call_types import CallEvent, TextDelta
from mcp_server_claude.engine.answer_buffer import AnswerBuffer
from mcp_server_claude.engine.continuation import ANCHOR_CHARS, CONTINUE_PROMPT, OverlapTrimmer, overlap_anchor
from mcp_server_claude.text_log import TextLog
from support.quick_run import examples

TABLE = "| a | b |\n| --- | --- |\n" + "".join(f"| {n} | {n * n} |\n" for n in range(12))
CODE = """\
def f(xs):
    for x in xs:
        if x:
            yield {"a": {"b": [x, x]}}

        else:
            pass
    return {}
}
}
"""
REPEATED = "\n".join(f"{n}. the same line, again and again" for n in range(9)) + "\n\n\nthe end\n\n"
SPACED = "one  \n\n\n two\t\n   \n\n  three \u00a0\u2003\n" * 2 + "four \n \n"
UNICODE = "Ça va 😀 👩‍👩‍👧 é e\u0301 ﷽ " + "日本語のテキスト、もう一度。" * 3
RTL = "שלום עולם \u202bزهرة\u202c מים " + "السلام عليكم " * 2 + "סוף"
EXAMPLES = (TABLE, CODE, REPEATED, SPACED, UNICODE, RTL)

texts = st.text(st.sampled_from("ab |\n}\t 1é😀א") | st.characters(codec="utf-8"), max_size=160)
sizes = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def pieces(text: str, sizes: list[int]) -> list[str]:
    """A text in deltas of these sizes, over and over."""
    found: list[str] = []
    while text:
        size = sizes[len(found) % len(sizes)]
        found.append(text[:size])
        text = text[size:]
    return found


def join(before: str, continuation: str, sizes: list[int], *, anchor: str, complete: bool = True) -> str:
    """A text joined with its continuation, delivered piece by piece; each piece is checked to stay."""
    trimmer = OverlapTrimmer(before, anchor=anchor)
    text = before
    for piece in pieces(continuation, sizes):
        text += trimmer.feed(piece)
    return text + trimmer.finish(complete=complete)


def once(text: str, cut: int) -> bool:
    """Whether the anchor of a cut is the only place in the text that reads like it."""
    anchor = overlap_anchor(text[:cut])
    return not anchor or text.count(anchor) == 1


def every_cut(text: str) -> range:
    """The cuts after which there is something to continue, and something left to say."""
    first = len(text) - len(text.lstrip()) + 1
    return range(first, len(text.rstrip()))


def by_prefill(text: str, cut: int) -> str:
    """The answer of a model that continues from the very end of its prefill: the text without its last white space."""
    return text[len(text[:cut].rstrip()) :]


def with_continue_prompt(text: str, cut: int) -> str:
    """What a model says that begins by repeating the last characters, as it was asked to."""
    return overlap_anchor(text[:cut]) + by_prefill(text, cut)


def test_a_continued_text_is_exact_at_every_cut_of_tables_code_repeated_lines_and_white_space() -> None:
    for text in EXAMPLES:
        for cut in every_cut(text):
            before, anchor = text[:cut], overlap_anchor(text[:cut])
            for deltas in ([1], [3, 40, 1], [1000]):
                assert join(before, by_prefill(text, cut), deltas, anchor="") == text
                assert join(before, with_continue_prompt(text, cut), deltas, anchor=anchor) == text
                if once(text, cut):
                    assert join(before, by_prefill(text, cut), deltas, anchor=anchor) == text


@settings(deadline=None, max_examples=examples(150))
@given(texts, st.data(), sizes)
def test_a_prefilled_text_continues_exactly_at_every_cut(text: str, data: st.DataObject, sizes: list[int]) -> None:
    assume(every_cut(text))
    cut = data.draw(st.sampled_from(every_cut(text)))
    assert join(text[:cut], by_prefill(text, cut), sizes, anchor="") == text


@settings(deadline=None, max_examples=examples(150))
@given(texts, st.data(), sizes, st.sampled_from(["", " ", "\n", "\n\n"]))
def test_a_text_with_a_repeated_end_continues_exactly_at_every_cut(
    text: str, data: st.DataObject, sizes: list[int], lead: str
) -> None:
    assume(every_cut(text))
    cut = data.draw(st.sampled_from(every_cut(text)))
    assert join(text[:cut], lead + with_continue_prompt(text, cut), sizes, anchor=overlap_anchor(text[:cut])) == text


@settings(deadline=None, max_examples=examples(150))
@given(texts, st.data(), sizes)
@example("}\n" + "x" * 37 + "\n}", None, [1]).via("the last character is the anchor's first")
@example("| a | b |\n" + "y" * 29 + "|", None, [5]).via("the rest of a row reads like its beginning")
def test_a_text_whose_end_is_not_repeated_continues_exactly_if_that_end_occurs_once(
    text: str, data: st.DataObject | None, sizes: list[int]
) -> None:
    assume(every_cut(text))
    cut = len(text.rstrip()) - 1 if data is None else data.draw(st.sampled_from(every_cut(text)))
    assume(once(text, cut))
    assert join(text[:cut], by_prefill(text, cut), sizes, anchor=overlap_anchor(text[:cut])) == text


@settings(deadline=None, max_examples=examples(150))
@given(before=texts, other=texts, sizes=sizes)
@example(before="a very long line of words that ends here", other="that ends here, or does it?", sizes=[1])
def test_a_continuation_without_the_anchor_is_joined_unchanged(before: str, other: str, sizes: list[int]) -> None:
    before = before.rstrip()
    anchor = overlap_anchor(before)
    assume(before)
    assume(not other.lstrip().startswith(anchor.lstrip()))
    assert join(before, other, sizes, anchor=anchor) == before + other


@settings(deadline=None, max_examples=examples(150))
@given(before=texts, continuation=texts, sizes=sizes, prefill=st.booleans(), complete=st.booleans())
def test_delivered_text_is_never_withdrawn_and_only_a_repetition_is_removed(
    before: str, continuation: str, sizes: list[int], *, prefill: bool, complete: bool
) -> None:
    anchor = "" if prefill else overlap_anchor(before)
    result = join(before, continuation, sizes, anchor=anchor, complete=complete)
    assert result.startswith(before)
    assert continuation.endswith(result[len(before) :])
    left_out = len(before) + len(continuation) - len(result)
    assert left_out <= len(anchor) + len(before) - len(before.rstrip()) + len(continuation) - len(continuation.lstrip())


@settings(deadline=None)
@given(before=texts, sizes=sizes, length=st.integers(1, ANCHOR_CHARS - 1))
def test_an_incomplete_repetition_adds_nothing(before: str, sizes: list[int], length: int) -> None:
    assume(before.strip())
    part = overlap_anchor(before).lstrip()[:length]
    assert join(before, part, sizes, anchor=overlap_anchor(before), complete=False) == before


@settings(deadline=None, max_examples=examples(200))
@given(text=texts, cuts=st.lists(st.integers(0, 200), max_size=4), sizes=sizes, prefill=st.booleans())
def test_a_text_broken_many_times_is_delivered_complete_and_in_order(
    text: str, cuts: list[int], sizes: list[int], *, prefill: bool
) -> None:
    """Each stream breaks in mid-text, in the repetition too; the next one continues what has been delivered."""
    events: list[CallEvent] = []
    buffer = AnswerBuffer(events.append, TextLog())
    for budget in [*cuts, len(text) + ANCHOR_CHARS]:
        delivered = buffer.text
        if delivered.strip():
            stripped = delivered.rstrip()
            anchor = "" if prefill else overlap_anchor(delivered)
            buffer.begin_stream(anchor=anchor)
            stream = anchor + text[len(stripped) :]
        else:
            buffer.begin_stream()
            stream = text
        for piece in pieces(stream[:budget], sizes):
            buffer.on_event(TextDelta(piece))
        assert text.startswith(buffer.text)
    buffer.end_stream(complete=True)
    assert buffer.text == "".join(event.text for event in events if isinstance(event, TextDelta)) == text


def test_the_continue_prompt_quotes_the_last_characters_without_trailing_white_space() -> None:
    assert overlap_anchor(TABLE + "  \n\n") == TABLE.rstrip()[-ANCHOR_CHARS:]
    assert f">{overlap_anchor(TABLE)}<" in CONTINUE_PROMPT.format(anchor=overlap_anchor(TABLE))
