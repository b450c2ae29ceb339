"""What a glob matches: files that git does not ignore, never hidden ones."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import FilePolicy, build_attachments, gitignore_walk
from support.file_tree import INSIDE_TEXT, build_file_tree, run_with_timeout
from support.symbolic_links import needs_links

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp_server_claude.files import Attachments


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of small text files."""
    for name in (
        *("top.py", "top.txt", "src/a.py", "src/b.ts", "src/deep/c.py", "src/deep/deeper/d.py", "src/deep/d.tsx"),
        *(
            "app/[id]/page.tsx",
            "app/i/page.tsx",
            "routes/[...slug]/[x].tsx",
            "routes/[...slug]/(auth)/layout.tsx",
            "routes/[...slug]/(auth)/[[...rest]]/page.tsx",
            ".hidden.py",
            ".config/e.py",
            ".github/workflows/ci.yml",
        ),
        *("build/f.py", "src/generated.py", "a b/g h.py"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
    return tmp_path


def ask(root: Path, *names: str, max_files: int = 100) -> Attachments:
    rules = FilePolicy(roots=(root,), max_files=max_files)
    return run_with_timeout(lambda: build_attachments(names, rules, images=True, pdf=True, model="m"))


def paths(root: Path, *names: str) -> list[str]:
    return [str(block["text"]).split('"')[3] for block in ask(root, *names).blocks]


@pytest.mark.parametrize(
    ("glob", "matched"),
    [
        ("*.py", ["top.py"]),
        ("src/*", ["src/a.py", "src/b.ts", "src/generated.py"]),
        ("src/**/*.py", ["src/a.py", "src/deep/c.py", "src/deep/deeper/d.py", "src/generated.py"]),
        (
            "src/**",
            ["src/a.py", "src/b.ts", "src/deep/c.py", "src/deep/d.tsx", "src/deep/deeper/d.py", "src/generated.py"],
        ),
        ("**/d.*", ["src/deep/d.tsx", "src/deep/deeper/d.py"]),
        ("**/deep/**/d.py", ["src/deep/deeper/d.py"]),
        ("src/**/**/deeper/**/**", ["src/deep/deeper/d.py"]),
        ("src/?.{ts,py}", ["src/b.ts", "src/a.py"]),
        ("src/[a-b].*", ["src/a.py", "src/b.ts"]),
        ("src/[!a]*.py", ["src/generated.py"]),
        ("./src/../src/*.ts", ["src/b.ts"]),
        ("*/g *.py", ["a b/g h.py"]),
        ("app/[id]/page.tsx", ["app/[id]/page.tsx"]),
        ("app/[i]/page.tsx", ["app/i/page.tsx"]),
        ("app/[id]/*", ["app/[id]/page.tsx"]),
        ("app/[id]/**", ["app/[id]/page.tsx"]),
        ("**/[id]/page.tsx", ["app/[id]/page.tsx"]),
        ("app/*/[p]age.tsx", ["app/[id]/page.tsx", "app/i/page.tsx"]),
        (
            "routes/[...slug]/(auth)/**",
            ["routes/[...slug]/(auth)/[[...rest]]/page.tsx", "routes/[...slug]/(auth)/layout.tsx"],
        ),
        ("routes/**/[[...rest]]/*.tsx", ["routes/[...slug]/(auth)/[[...rest]]/page.tsx"]),
        ("routes/[...slug]/(auth)/{l,m}*", ["routes/[...slug]/(auth)/layout.tsx"]),
        ("routes/[...slug]/[[]x].tsx", ["routes/[...slug]/[x].tsx"]),
        ("routes/[...slug]/[x]*", ["routes/[...slug]/[x].tsx"]),
        (".github/workflows/*.yml", [".github/workflows/ci.yml"]),
        ("{top.py,src/a.py}", ["top.py", "src/a.py"]),
    ],
)
def test_a_glob_matches_as_in_a_shell(tree: Path, glob: str, matched: list[str]) -> None:
    assert paths(tree, glob) == matched
    if not glob.startswith(("{", "./")):
        assert paths(tree, f"{tree}/{glob}") == matched


def test_a_glob_reports_its_number_of_matches(tree: Path) -> None:
    assert ask(tree, "src/*").notes == ('"src/*" matched 3 files.',)
    assert ask(tree, "src/a.py").notes == ()


def test_a_glob_with_too_many_matches_is_rejected_with_the_number(tree: Path) -> None:
    with pytest.raises(RequestError, match=r'"\*\*/\*" matches 15 files; at most 5') as refused:
        ask(tree, "**/*", max_files=5)
    assert refused.value.kind == "too_large"


def test_a_glob_without_matches_names_the_directories_of_such_files(tree: Path) -> None:
    with pytest.raises(RequestError, match=r'"\*\*/\*\.tsx" would match 6, e\.g\. "app/\[id\]/page\.tsx"'):
        ask(tree, "*.tsx")
    with pytest.raises(RequestError, match=r'no "scr"\. The nearest is "src"'):
        ask(tree, "scr/*.py")
    with pytest.raises(RequestError, match="is a file"):
        ask(tree, "top.py/*")


@needs_links
def test_unsendable_matches_of_a_glob_are_skipped_and_reported(tree: Path) -> None:
    (tree / "src/z.so").write_bytes(b"\x7fELF" + bytes(50))
    (tree / "src/empty.py").write_text("")
    (tree / "src/server.pem").write_text("key")
    (tree / "src/out.py").symlink_to("/etc/passwd")
    seen = ask(tree, "src/*")
    assert [str(block["text"]).split('"')[3] for block in seen.blocks] == ["src/a.py", "src/b.ts", "src/generated.py"]
    first, second = seen.notes
    assert "2 left out" in first
    assert "src/empty.py" in second
    assert "ELF" in second
    with pytest.raises(RequestError, match="ELF"):
        ask(tree, "src/*.so")
    with pytest.raises(RequestError, match="secrets"):
        ask(tree, "src/*.pem")
    with pytest.raises(RequestError, match="ELF"):
        ask(tree, "src/*", "src/z.so")  # named itself


def test_files_that_git_ignores_are_skipped_by_globs_but_can_be_named(tree: Path, git: Callable[..., None]) -> None:
    git(tree, "init", "-q")
    (tree / ".gitignore").write_text("build/\ngenerated.py\n")
    git(tree, "add", "src/a.py", ".gitignore")
    (tree / "src/gone.py").write_text("x")
    git(tree, "add", "src/gone.py")
    (tree / "src/gone.py").unlink()

    assert paths(tree, "**/*.py") == ["a b/g h.py", "src/a.py", "src/deep/c.py", "src/deep/deeper/d.py", "top.py"]
    assert paths(tree, "build/f.py") == ["build/f.py"]
    assert paths(tree, "build/*.py") == ["build/f.py"], "the directory itself was asked for"
    assert paths(tree / "src", "*.py") == ["a.py"]


def test_nested_repositories_are_listed_by_their_own_rules(tree: Path, git: Callable[..., None]) -> None:
    git(tree, "init", "-q")
    inner = tree / "src/inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / ".gitignore").write_text("*.log\n")
    (inner / "x.py").write_text("x")
    (inner / "x.log").write_text("x")
    assert paths(tree, "src/inner/*") == ["src/inner/x.py"]
    assert "src/inner/x.py" in paths(tree, "src/**")
    assert "src/inner/x.log" not in paths(tree, "src/**")


def test_a_repository_cannot_make_git_run_anything(
    tree: Path, git: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    trap = tmp_path_factory.mktemp("trap")
    script = trap / "run.sh"
    script.write_text(f"#!/bin/sh\ntouch {trap}/sprung\n")
    script.chmod(0o755)
    git(tree, "init", "-q")
    for key in ("core.fsmonitor", "core.sshCommand", "core.editor", "core.pager", "core.askPass", "alias.ls-files"):
        git(tree, "config", key, str(script))
    git(tree, "config", "core.hooksPath", str(trap))

    assert "src/a.py" in paths(tree, "**/*.py")
    assert not (trap / "sprung").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_repository_of_another_owner_is_still_listed_by_its_rules(tree: Path, git: Callable[..., None]) -> None:
    git(tree, "init", "-q")
    (tree / ".gitignore").write_text("build/\n")
    for path in (tree, tree / ".git"):
        os.chown(path, 12345, 12345)
    assert "build/f.py" not in paths(tree, "**/*.py")


def test_a_repository_that_points_elsewhere_reveals_nothing_from_there(
    tmp_path: Path, git: Callable[..., None]
) -> None:
    tree = build_file_tree(tmp_path)
    for file in (tree.root / ".git").iterdir():
        file.unlink()
    git(tree.root, "init", "-q")
    git(tree.root, "config", "core.worktree", str(tree.outside))
    assert all(INSIDE_TEXT in text for text in tree.attached_texts("src/**"))


def test_without_git_all_files_are_listed(
    tree: Path, git: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tree, "init", "-q")
    (tree / ".gitignore").write_text("build/\n")

    def nowhere(name: str) -> None:
        del name

    monkeypatch.setattr(gitignore_walk.shutil, "which", nowhere)
    assert paths(tree, "**/f.py") == ["build/f.py"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in its file system")
def test_a_git_process_that_hangs_is_given_up(
    tree: Path, git: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tree, "init", "-q")
    (tree / ".git/config").unlink()
    os.mkfifo(tree / ".git/config")
    monkeypatch.setattr(gitignore_walk, "GIT_TIMEOUT_S", 0.3)
    assert "src/a.py" in paths(tree, "src/*.py")


def test_files_that_are_too_large_are_skipped_by_a_glob_and_reported(tree: Path) -> None:
    with (tree / "src" / "dump.py").open("wb") as file:
        file.truncate(1 << 40)
    found = ask(tree, "src/*.py")
    assert found.file_count >= 1
    assert found.notes[-1] == (
        '1 matched file cannot be sent and was left out: "src/dump.py" is 1099.5 GB large (at most 30.0 MB).'
    )


def test_a_tree_that_is_too_large_to_walk_is_reported(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gitignore_walk, "MAX_FILE_NAMES", 12)
    assert "too large to search whole" in ask(tree, "*.py").notes[0]
