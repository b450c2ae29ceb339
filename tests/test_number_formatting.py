from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude import number_formatting


@pytest.mark.parametrize(
    ("count", "plural", "written"),
    [
        (0, "", "0 requests"),
        (1, "", "1 request"),
        (1234, "", "1,234 requests"),
        (1, "xs", "1 request"),
        (2, "xs", "2 xs"),
    ],
)
def test_a_count_has_the_noun_of_its_number(count: int, plural: str, written: str) -> None:
    assert number_formatting.format_count(count, "request", plural) == written


@pytest.mark.parametrize(
    ("count", "written"),
    [
        (0, "0"), (7, "7"), (812, "812"), (999, "999"), (1000, "1k"), (1049, "1k"), (1200, "1.2k"), (9949, "9.9k"),
        (9950, "10k"), (48_400, "48k"), (999_499, "999k"), (999_500, "1M"), (1_300_000, "1.3M"), (128_000_000, "128M"),
        (999_500_000, "1B"), (3_090_000_000, "3.1B"), (31_400_000_000, "31B"),
    ],
)  # fmt: skip
def test_tokens_are_written_short(count: int, written: str) -> None:
    assert number_formatting.format_tokens(count) == written


@given(st.integers(0, 999_000_000_000))
def test_a_token_count_has_at_most_four_characters_and_is_right_to_a_twentieth(count: int) -> None:
    written = number_formatting.format_tokens(count)
    assert len(written) <= 4
    size = {"k": 1000.0, "M": 1_000_000.0, "B": 1_000_000_000.0}.get(written[-1], 1.0)
    assert float(written.rstrip("kMB")) * size == pytest.approx(count, rel=0.051)


@pytest.mark.parametrize(
    ("usd", "written"),
    [
        (None, "$?"), (0, "$0"), (0.00001, "<$0.0001"), (0.0004, "$0.0004"), (0.031, "$0.031"), (0.25, "$0.250"),
        (1.24, "$1.24"), (17.5, "$17.50"), (1234.5, "$1,234.50"),
    ],
)  # fmt: skip
def test_dollars_are_written_with_the_digits_that_matter(usd: float | None, written: str) -> None:
    assert number_formatting.format_usd(usd) == written


@given(st.floats(0.0001, 10**6))
def test_a_cost_above_zero_is_never_written_as_zero(usd: float) -> None:
    assert float(number_formatting.format_usd(usd).removeprefix("$").replace(",", "")) == pytest.approx(usd, rel=0.5)


@pytest.mark.parametrize(
    ("elapsed", "written"),
    [
        (0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (12.2, "12 s"), (119, "119 s"), (120, "2 min"),
        (200, "3 min 20 s"),
    ],
)  # fmt: skip
def test_seconds_are_written_as_a_person_writes_them(elapsed: float, written: str) -> None:
    assert number_formatting.format_seconds(elapsed) == written


@pytest.mark.parametrize(
    ("amounts", "written"),
    [
        ((5.0, 0.0015), ("$5.00", "$0.0015")), ((5.0, 5.0), ("$5.00", "$5.00")), ((1.004, 1.0), ("$1.004", "$1.000")),
        ((5.0, 4.999999), ("$5.000000", "$4.999999")), ((0.00001, 0.000655), ("$0.00001", "$0.0007")),
        ((0.00001, 0.0), ("$0.00001", "$0")), ((0.0000001,), ("$0.0000001",)), ((0.0, 0.0), ("$0", "$0")),
        ((0.01, 0.0099999), ("$0.0100000", "$0.0099999")), ((1234.561, 1234.562), ("$1,234.561", "$1,234.562")),
    ],
)  # fmt: skip
def test_amounts_that_are_compared_have_the_digits_in_which_they_differ(
    amounts: tuple[float, ...], written: tuple[str, ...]
) -> None:
    assert number_formatting.format_distinct_usd(*amounts) == written


@given(st.lists(st.integers(0, 10**9).map(lambda micros: micros / 1e6), min_size=1, max_size=3))
def test_different_amounts_never_look_the_same(amounts: list[float]) -> None:
    written = number_formatting.format_distinct_usd(*amounts)
    shown = [float(text.removeprefix("$").replace(",", "")) for text in written]
    assert len(set(shown)) == len(set(amounts))
    assert [usd == 0 for usd in shown] == [usd == 0 for usd in amounts]
