"""The tables of the documentation: a row with other cells than its head is drawn wrong, and nobody is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]
TABLE = re.compile(r"(?:^ *\|.*\n)+", re.MULTILINE)
RULE = re.compile(r"[ |:-]+")
CELL_END = re.compile(r"(?<!\\)\|")


def count_cells(row: str) -> int:
    return len(CELL_END.findall(row)) - 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_row_of_a_table_has_the_cells_of_its_head(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for table in TABLE.findall(text):
        head, rule, *rows = table.strip().splitlines()
        assert RULE.fullmatch(rule), f"no table, since no rule follows: {head}"
        assert {count_cells(row) for row in (rule, *rows)} == {count_cells(head)}, head


def test_the_tables_are_found() -> None:
    assert sum(len(TABLE.findall(page.read_text(encoding="utf-8"))) for page in PAGES) > 20
