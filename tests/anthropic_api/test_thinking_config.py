from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude.anthropic_api import thinking_summary
from mcp_server_claude.anthropic_api.models.model_list_cache import bundled_catalog
from mcp_server_claude.anthropic_api.thinking_config import thinking_config
from mcp_server_claude.anthropic_api.thinking_summary import MAX_SENTENCE_CHARS, SENTENCE_END, ThinkingSummary

ASKED = {"claude-opus-4-8", "claude-opus-4-7", "claude-opus-4-6", "claude-sonnet-4-6"}
UP_TO_4_5 = {"claude-opus-4-5-20251101", "claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001"}


def test_thinking_is_requested_only_with_an_effort_and_only_of_models_that_do_not_think_by_default() -> None:
    for model in bundled_catalog().models:
        wanted = {"type": "adaptive"} if model.id in ASKED else None
        assert thinking_config(model, effort="low", display="") == wanted
        assert thinking_config(model, effort="", display="") is None


def test_a_display_is_sent_only_to_models_that_think() -> None:
    for model in bundled_catalog().models:
        shown = {"type": "adaptive", "display": "summarized"}
        assert thinking_config(model, effort="low", display="summarized") == (None if model.id in UP_TO_4_5 else shown)
        silent = model.id in UP_TO_4_5 | ASKED
        assert thinking_config(model, effort="", display="summarized") == (None if silent else shown)


def test_a_model_of_a_cloud_is_recognised_by_the_id_of_anthropic() -> None:
    model = next(each for each in bundled_catalog().models if each.id == "claude-opus-4-6")
    (renamed,) = bundled_catalog().for_platform(lambda name: f"eu.{name}-v1", lambda _: frozenset()).models[-4:-3]
    assert renamed.anthropic_id == model.id
    assert thinking_config(renamed, effort="low", display="") == {"type": "adaptive"}


@pytest.mark.parametrize(
    ("pieces", "sentence"),
    [
        (["I look at "], ""),
        (["I look at the file. ", "Then"], "I look at the file."),
        (["**Plan**\n", "First the "], "Plan"),
        (["One.", " Two", " is\nlonger. And"], "longer."),
        (["x" * 500 + ". y"], "x" * MAX_SENTENCE_CHARS),
    ],
)
def test_a_summary_is_shown_sentence_by_sentence(pieces: list[str], sentence: str) -> None:
    summary = ThinkingSummary()
    for piece in pieces:
        summary.add_text(piece)
    assert summary.last_sentence == sentence


@given(st.lists(st.lists(st.sampled_from(["a", "b.", "?", ":", " ", "\n", "**", "- "]), max_size=6).map("".join)))
def test_a_summary_does_not_depend_on_where_its_text_is_cut(pieces: list[str]) -> None:
    *sentences, _ = SENTENCE_END.split("".join(pieces))
    lines = [" ".join(each.replace("**", "").split()).lstrip("*#-> ") for each in sentences]
    summary = ThinkingSummary()
    for piece in pieces:
        summary.add_text(piece)
    assert summary.last_sentence == next((each for each in reversed(lines) if each), "")


def test_a_sentence_stays_whole_while_a_long_one_follows() -> None:
    summary = ThinkingSummary()
    for piece in ["I look at the file. ", *(["and on "] * 400)]:
        summary.add_text(piece)
        assert summary.last_sentence == "I look at the file."


def test_a_piece_of_a_summary_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a search of what came before it too, a fast stream of thinking held the event loop for 38 ms at a time."""

    class CountingPattern:
        searched_chars = 0

        def finditer(self, text: str, begin: int) -> object:
            self.searched_chars += len(text) - begin
            return re.finditer(SENTENCE_END, text)

    pattern = CountingPattern()
    monkeypatch.setattr(thinking_summary, "SENTENCE_END", pattern)
    summary = ThinkingSummary()
    for _ in range(500):
        summary.add_text("One. Two")
    assert pattern.searched_chars == 500 * len("One. Two")
