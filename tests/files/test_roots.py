"""Which directories are roots."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_server_claude.files import roots_for
from support.symbolic_links import needs_links
from support.user_environment import user_variables


def test_on_stdio_the_project_is_the_first_root_and_the_configured_ones_follow(tmp_path: Path) -> None:
    for name in ("cwd", "project", "docs"):
        (tmp_path / name).mkdir()
    cwd, project, docs = tmp_path / "cwd", tmp_path / "project", tmp_path / "docs"

    assert roots_for(cwd=cwd, project_dir=str(project), operator_roots=[docs, project], http=False) == (project, docs)
    assert roots_for(cwd=cwd, project_dir="", operator_roots=[], http=False) == (cwd,)
    assert roots_for(cwd=cwd, project_dir="", operator_roots=[Path("../docs")], http=False) == (cwd, docs)


@pytest.mark.parametrize("unusable", ["${CLAUDE_PROJECT_DIR}", "relative", "/no/such/directory", "/", "a\0b", "/etc"])
def test_an_unsuitable_project_leaves_the_working_directory(tmp_path: Path, unusable: str) -> None:
    assert roots_for(cwd=tmp_path, project_dir=unusable, operator_roots=[], http=False) == (tmp_path,)


def test_on_http_only_configured_roots_are_read(tmp_path: Path) -> None:
    assert roots_for(cwd=tmp_path, project_dir=str(tmp_path), operator_roots=[], http=True) == ()
    assert roots_for(cwd=tmp_path, project_dir="", operator_roots=[tmp_path], http=True) == (tmp_path,)


@pytest.mark.parametrize(
    "wide",
    ["/", "/etc", "/etc/ssl", "/usr", "/usr/bin", "/var", "/bin", "/proc", "/proc/self", "/dev", "/run", "/home"],
)
def test_a_system_directory_is_a_root_only_if_configured(wide: str) -> None:
    directory = Path(wide)
    if not directory.is_dir():
        pytest.skip("not here")
    assert roots_for(cwd=directory, project_dir=wide, operator_roots=[], http=False) == ()
    assert roots_for(cwd=directory, project_dir="", operator_roots=[directory], http=False) == (directory.resolve(),)


@needs_links
def test_the_home_directory_is_no_root_but_its_subdirectories_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "people/me"
    (home / "project").mkdir(parents=True)
    (home / ".ssh").mkdir()
    (tmp_path / "alias").symlink_to(home)
    for name, value in user_variables(home).items():
        monkeypatch.setenv(name, value)

    for wide in (home, home.parent, tmp_path, tmp_path / "alias", home / ".ssh"):
        assert roots_for(cwd=wide, project_dir=str(wide), operator_roots=[], http=False) == ()
    assert roots_for(cwd=home / "project", project_dir="", operator_roots=[], http=False) == (home / "project",)
    assert roots_for(cwd=home, project_dir="", operator_roots=[Path("~")], http=False) == (home,)


@needs_links
def test_roots_are_real_existing_and_unique_directories(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("x")
    named = [tmp_path / each for each in ("link", "real", "file", "gone")]
    assert roots_for(cwd=tmp_path, project_dir="", operator_roots=named, http=True) == (tmp_path / "real",)
