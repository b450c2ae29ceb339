from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.files import sandbox
from support import file_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.file_tree import FileTree


@pytest.fixture
def tree(tmp_path: Path) -> FileTree:
    return file_tree.build_file_tree(tmp_path)


@pytest.fixture(scope="session")
def unchanged_tree(tmp_path_factory: pytest.TempPathFactory) -> FileTree:
    """One tree for all tests that change nothing in it."""
    return file_tree.build_file_tree(tmp_path_factory.mktemp("still"))


@pytest.fixture(params=["openat", "resolve"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to a file: walked where the platform can, else resolved and compared (Windows)."""
    chosen = str(request.param)
    if chosen == "resolve":
        monkeypatch.setattr(sandbox, "HAS_OPENAT", False)
    elif not sandbox.HAS_OPENAT:
        pytest.skip("this platform has no openat")
    return chosen


@pytest.fixture
def git() -> Callable[..., None]:
    def run(where: Path, *arguments: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(where), *arguments],  # noqa: S607
            check=True,
            capture_output=True,
        )

    return run
