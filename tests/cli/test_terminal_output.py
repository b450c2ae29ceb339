"""Tables and lines of the shell on terminals of any width."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from mcp_server_claude.cli.chat_commands import HELP, help_text
from mcp_server_claude.cli.terminal_output import join_lines, table_lines, wrap_paragraph

HEAD = ("thread", "cost", "first question")
ROWS = [("t_1", "$0.01", "お茶とは何ですか"), ("t_2", "$1.00", "What is tea, and where does it come from?")]


def test_columns_line_up_by_the_width_of_their_characters() -> None:
    lines = table_lines(("model", "cost", "note"), [("抹茶", "$1", "x"), ("tea", "$10", "x")], left=1, max_width=None)
    assert {cell_len(line) for line in lines} == {17}


def test_a_last_column_of_text_is_cut_to_the_terminal() -> None:
    lines = table_lines(HEAD, ROWS, left=3, max_width=36)
    assert lines[2] == "t_2     $1.00  What is tea, and whe…"
    assert all(cell_len(line) <= 36 for line in lines)


def test_a_table_without_a_terminal_is_not_cut() -> None:
    assert table_lines(HEAD, ROWS, left=3, max_width=None)[2].endswith("where does it come from?")


def test_on_a_narrow_terminal_each_row_is_a_record() -> None:
    assert table_lines(HEAD, ROWS, left=1, max_width=30) == [
        "t_1",
        "  cost $0.01",
        "  first question お茶とは何で…",
        "t_2",
        "  cost $1.00",
        "  first question What is tea,…",
    ]


def test_a_line_is_broken_between_its_parts() -> None:
    assert join_lines(["[claude", "10 in", "20 out", "t_1]"], 18, indent=" ") == ["[claude · 10 in", " 20 out · t_1]"]


def test_a_paragraph_is_broken_between_words_and_a_path_stays_whole() -> None:
    path = "/home/ada/.config/mcp-server-claude/config.toml"
    assert wrap_paragraph(f"there is no file {path}", 40, label="settings ", indent=9).splitlines() == [
        "settings there is no file",
        f"         {path}",
    ]


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_the_commands_of_a_conversation_are_listed_in_lines_that_fit(columns: int) -> None:
    lines = help_text(columns).splitlines()
    assert max(map(len, lines)) <= columns
    assert " ".join(" ".join(lines).split()) == " ".join(HELP.split())
