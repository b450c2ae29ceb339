"""Cells of CSV that a spreadsheet takes for what they are, not for formulas."""

from __future__ import annotations

import re

FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Characters that begin a formula in a spreadsheet (owasp.org, "CSV Injection", read 2026-11)."""
NUMBER = re.compile(r"[+-]\d[\d.,]*(?:[eE][+-]?\d+)?%?")


def escape_formula(cell: object) -> object:
    """The cell, with an apostrophe in front of a text that a spreadsheet would run as a formula.

    Names, questions and answers of models go into spreadsheets, where `=HYPERLINK(…)` sends the other cells to somebody
    else. A number with a sign is none.
    """
    is_formula = isinstance(cell, str) and cell.startswith(FORMULA_PREFIXES) and not NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell
