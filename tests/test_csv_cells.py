from __future__ import annotations

import pytest

from mcp_server_claude.csv_cells import escape_formula


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+cmd|' /C calc'!A0", "-1+A1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "- a point", "=", "+-1"],
)
def test_a_text_that_a_spreadsheet_would_run_begins_with_an_apostrophe(text: str) -> None:
    assert escape_formula(text) == f"'{text}"


@pytest.mark.parametrize("cell", ["plain", "", " =1", "1-2", "-5", "+1,000.50", "-1e-6", "-5%", -5, 0.5, None, True])
def test_any_other_cell_is_unchanged(cell: object) -> None:
    assert escape_formula(cell) is cell
