"""The results of the model's own `read` tool."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.anthropic_api.models.model_capabilities import ClaudeModel
from mcp_server_claude.errors import ConfigurationError, RequestError
from mcp_server_claude.files import RunLimit, glob_files, grep_files, list_directory, read_file, read_glob_grep
from support.file_tree import CANARY, FileTree, pdf, png, run_with_timeout
from support.symbolic_links import needs_links

if TYPE_CHECKING:
    from pathlib import Path


EYES = ClaudeModel(id="claude-test")


def text(path: str, tree: FileTree, first: int = 1, last: int = 0) -> str:
    found = read_file(path, tree.rules, first, last, model=EYES)
    assert isinstance(found, str)
    return found


@needs_links
def test_a_directory_is_listed_without_its_secrets(tree: FileTree) -> None:
    names = list_directory("", tree.rules).split("\n")
    assert names[:3] == ["empty/", "keys/", "src/"]
    assert {"a.txt", "in"} | ({"pipe"} if sys.platform != "win32" else set[str]()) <= set(names)
    assert not {".env", ".git/", ".ssh/", "id_rsa", "credentials.json"} & set(names)
    assert list_directory("src", tree.rules) == "a.py\nb.py"
    assert list_directory("empty", tree.rules) == "(empty)"


def test_a_long_directory_listing_is_cut_and_reported(tree: FileTree) -> None:
    for n in range(600):
        (tree.root / "empty" / f"{n:03}").touch()
    *_, last, more = list_directory("empty", tree.rules).split("\n")
    assert (last, more) == ("499", "… and 100 more")


def test_files_are_found_by_a_glob_below_a_directory(tree: FileTree) -> None:
    assert glob_files("**/*.py", "", tree.rules) == "src/a.py\nsrc/b.py"
    assert glob_files("*.py", "src", tree.rules) == glob_files("*.py", "./src/", tree.rules) == "src/a.py\nsrc/b.py"
    assert glob_files("*.py", str(tree.root / "src"), tree.rules) == "src/a.py\nsrc/b.py"
    for pattern, path in (("*.py", ".."), ("*.py", "/"), ("../*", ""), ("*.rs", "src"), ("*", "nowhere")):
        with pytest.raises(RequestError):
            glob_files(pattern, path, tree.rules)
    for n in range(600):
        (tree.root / "empty" / f"{n:03}.md").touch()
    *_, last, more = glob_files("*.md", "empty", tree.rules).split("\n")
    assert (last, more) == ("empty/499.md", "… and 100 more: narrow the glob")


def test_text_is_read_by_numbered_lines(tree: FileTree) -> None:
    (tree.root / "long.txt").write_text("".join(f"line {n}\r\n" for n in range(1, 2_201)), newline="")
    first = text("long.txt", tree).split("\n")
    assert first[0] == "     1\tline 1"
    assert first[-1] == "[lines 1 to 2,000 of 2,200; the rest begins at line 2001]"
    assert text("long.txt", tree, first=2_200) == "  2200\tline 2200"
    assert text("long.txt", tree, 2, 2).split("\n")[0] == "     2\tline 2"
    assert text("long.txt", tree, 2, 2).split("\n")[1].startswith("[lines 2 to 2 of 2,200")
    assert text("long.txt", tree, first=-5, last=-5).startswith("     1\tline 1\n")
    assert text("long.txt", tree, 7, 3).startswith("     7\tline 7\n")
    with pytest.raises(RequestError, match="2,200 lines"):
        text("long.txt", tree, first=2_201)


def test_content_that_the_model_does_not_accept_is_rejected(tree: FileTree) -> None:
    (tree.root / "a.pdf").write_bytes(pdf())
    (tree.root / "a.png").write_bytes(png())
    (tree.root / "torn.png").write_bytes(png()[:12])
    blind = replace(EYES, images=False, pdf=False)
    for name, model, what in (
        ("a.pdf", blind, "takes no PDF"),
        ("a.png", blind, "takes no images"),
        ("torn.png", EYES, "damaged"),
        ("program", EYES, "ELF"),
        ("src", EYES, "a directory"),
    ):
        with pytest.raises(RequestError, match=what):
            read_file(name, tree.rules, model=model)


def test_long_lines_and_long_answers_are_cut(tree: FileTree) -> None:
    (tree.root / "wide.txt").write_text(("x" * 10_000 + "\n") * 200)
    seen = text("wide.txt", tree)
    assert len(seen) < 110_000
    assert "the rest begins at line" in seen


def test_a_search_result_has_path_line_and_text(tree: FileTree) -> None:
    assert grep_files(r"from \w+", "**/*.py", tree.rules).split("\n") == [
        "src/a.py:1: # from within",
        "src/b.py:1: b = 'from within'",
        "[2 matching lines in 2 files searched]",
    ]
    assert grep_files("within", "src", tree.rules) == grep_files("within", "src/**", tree.rules)
    assert grep_files("within", "a.txt", tree.rules).startswith("a.txt:1: a from within")
    assert grep_files("nowhere", "src", tree.rules) == "[0 matching lines in 2 files searched]"
    assert CANARY not in grep_files("c4n4ry", "", tree.rules)


def test_a_search_stops_at_its_limit_and_reports_it(tree: FileTree) -> None:
    (tree.root / "many.txt").write_text("hit\n" * 500)
    seen = grep_files("hit", "many.txt", tree.rules, max_matches=3).split("\n")
    assert len(seen) == 4
    assert "there are more" in seen[-1]


def test_a_long_line_is_shown_around_its_match(tree: FileTree) -> None:
    (tree.root / "wide.txt").write_text("x" * 1_000 + "needle" + "y" * 1_000)
    line = grep_files("needle", "wide.txt", tree.rules).split("\n")[0]
    assert "xneedley" in line
    assert len(line) < 400


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "(?P<n>a)(?P<n>b)", "[z-a]", "*", "", "x" * 1_001, "(?<=a*)b"])
def test_an_invalid_expression_is_rejected(tree: FileTree, pattern: str) -> None:
    with pytest.raises(RequestError, match="xpression"):
        grep_files(pattern, "a.txt", tree.rules)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(a|aa)+$", "(.*a){20}$", r"(a*)*\1$"])
def test_an_endless_expression_is_stopped_and_its_matches_so_far_are_kept(
    tree: FileTree, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_glob_grep, "GREP_TIMEOUT_S", 1.0)
    (tree.root / "src/0.py").write_text("aaaa\n")
    (tree.root / "src/1.py").write_text("a" * 60 + "!\n")
    seen = run_with_timeout(lambda: grep_files(pattern, "src/?.py", tree.rules))
    assert "matching line" in seen
    assert "stopped after 1 s" in seen or seen.startswith("src/0.py:1: aaaa")


def test_a_search_ends_when_its_run_is_cancelled(tree: FileTree) -> None:
    (tree.root / "src/1.py").write_text("a" * 60 + "!\n")
    limit = RunLimit()
    timer = threading.Timer(0.5, limit.cancel)
    timer.start()
    seen = run_with_timeout(lambda: grep_files("(a+)+$", "src/1.py", tree.rules, limit=limit))
    assert "0 matching lines" in seen
    assert limit.remaining_s() == 0
    assert "0 matching lines" in run_with_timeout(lambda: grep_files("a", "src/1.py", tree.rules, limit=limit))


def test_a_search_that_is_killed_while_files_are_sent_leaves_nothing_behind(
    tree: FileTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_glob_grep, "GREP_TIMEOUT_S", 1.0)
    for n in range(40):
        (tree.root / f"big-{n}.txt").write_text(("a" * 60 + "!\n") * 3_000)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    seen = run_with_timeout(lambda: grep_files("(a+)+$", "big-*.txt", tree.rules))
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    assert "stopped after 1 s" in seen
    assert after <= before


def test_the_search_process_does_not_inherit_the_environment(tree: FileTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSTARTUP", str(tree.root / "a.txt"))
    monkeypatch.setenv("PYTHONPATH", str(tree.root))
    (tree.root / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tree.root)
    assert "a.txt:1:" in grep_files("within", "a.txt", tree.rules)


def test_a_python_that_cannot_be_started_is_a_configuration_error(
    tree: FileTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/no/such/python")
    with pytest.raises(ConfigurationError, match="could not be started"):
        grep_files("within", "a.txt", tree.rules)


def test_names_of_other_roots_are_absolute(tree: FileTree, tmp_path: Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    (second / "x.txt").write_text("within x")
    rules = replace(tree.rules, roots=(tree.root, second))
    assert grep_files("within", f"{second}/*.txt", rules).startswith(f"{second.as_posix()}/x.txt:1: within x")
    assert 'path="a.txt"' in tree.attached_texts("a.txt")[0]
