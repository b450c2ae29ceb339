"""Every command of the documentation, pasted in the order of its page into a shell with an empty home.

The README's commands have a test of their own (tests/test_readme.py), because they install the package.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import anyio.to_thread
import pytest

from mcp_server_claude.simulator import Pace, Simulator
from support.documented_commands import PageTerminals, read_blocks

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
PAGES_WITH_COMMANDS = [page for page in PAGES if any(block.language == "sh" for block in read_blocks(page))]
ACTIONS = {"", "serve", "expect", "exit", "save", "skip"}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the lines are for a POSIX shell")


def test_each_command_is_in_a_fenced_block_that_the_tests_see() -> None:
    for page in PAGES:
        outside = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert not re.search(r"^ {4}(\S*mcp-server-claude|curl|pip|export|python) ", outside, re.MULTILINE), page.name


def test_each_comment_for_the_tests_is_known_and_precedes_a_block() -> None:
    for page in PAGES:
        blocks = read_blocks(page)
        assert page.read_text(encoding="utf-8").count("<!-- test: ") == sum(bool(block.action) for block in blocks)
        for block in blocks:
            assert block.action in ACTIONS, block.where
            assert bool(block.argument) == bool(block.action), block.where


def test_no_pasted_line_has_a_comment_or_an_angle_bracket() -> None:
    """An interactive zsh, macOS's shell, takes `#` for an argument; every shell takes `<…>` for a redirection."""
    for page in PAGES_WITH_COMMANDS:
        for block in read_blocks(page):
            if block.language == "sh":
                assert not re.search(r"(^|\s)#|<[^<]*>", block.text), block.where


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda page: page.stem)
async def test_each_command_of_a_page_works_as_pasted_in_order(page: Path, tmp_path: Path) -> None:
    if shutil.which("bash") is None or shutil.which("curl") is None:
        pytest.skip("bash or curl is not installed")
    directory, home = tmp_path / "directory", tmp_path / "home"
    directory.mkdir()
    home.mkdir()
    (directory / ".venv").symlink_to(sys.prefix)
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as api:
        environment = {
            "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "MCP_CLAUDE_BASE_URL": api.url,  # an API that costs nothing, for pages that assume a key
            "MCP_CLAUDE_API_KEY": "sk-ant-fake",
        }
        with PageTerminals(directory, environment) as terminals:
            for block in read_blocks(page):
                if block.action == "save" or (block.language == "sh" and block.action != "skip"):
                    await anyio.to_thread.run_sync(terminals.run, block)
