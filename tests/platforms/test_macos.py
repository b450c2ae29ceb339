"""What differs on macOS, as far as another system can show it: directories with two names, and names without case."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest

from mcp_server_claude.files import roots, sandbox
from mcp_server_claude.files.roots import FilePolicy, roots_for
from mcp_server_claude.files.sandbox import RootedPath, Roots

pytestmark = pytest.mark.skipif(os.name == "nt", reason="The paths are POSIX's.")


@pytest.fixture(autouse=True)
def macos_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox as on macOS, whose `/tmp`, `/var` and `/etc` are links to `/private`."""
    monkeypatch.setattr(sandbox, "sys", SimpleNamespace(platform="darwin"))


def located(root: str, path: str) -> RootedPath | None:
    return Roots.from_policy(FilePolicy(roots=(Path(root),))).locate(path)


@pytest.mark.parametrize("name", ["/private/tmp/project/src/a.py", "/tmp/project/src/a.py"])  # noqa: S108
def test_a_root_below_private_is_named_with_and_without_it(name: str) -> None:
    assert located("/private/tmp/project", name) == RootedPath("/private/tmp/project", ("src", "a.py"))
    assert located("/private/tmp/project", name.replace("roject", "rojects")) is None


def test_a_file_is_read_by_both_names_of_a_directory_that_is_a_link(tmp_path: Path) -> None:
    project = tmp_path / "private" / "tmp" / "project"
    project.mkdir(parents=True)
    (tmp_path / "tmp").symlink_to("private/tmp")
    (project / "a.txt").write_text("text", encoding="utf-8")
    alias = tmp_path / "tmp" / "project"
    roots = Roots.from_policy(FilePolicy(roots=(alias,)))
    for directory in (project, alias):
        place = roots.locate(str(directory / "a.txt"))
        assert place is not None
        with sandbox.open_in_roots(place, roots) as file:
            assert file.read(100) == b"text"


def spell(path: Path, **others: str) -> None:
    """Give directories below `path` other spellings by links: for `stat` they are one, as on a volume without case."""
    for name, other in others.items():
        (path / other).symlink_to(name)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_case_and_the_normal_form_of_a_root_need_not_be_those_of_the_operator(tmp_path: Path, form: str) -> None:
    own, spelled = "B\u00fccher", unicodedata.normalize("NFC" if form == "NFC" else "NFD", "B\u00dcCHER")
    project = tmp_path / "Users" / "ada" / own
    project.mkdir(parents=True)
    spell(tmp_path, Users="users")
    spell(tmp_path / "Users", ada="Ada")
    spell(project.parent, **{own: spelled})
    spell(project.parent, **{own: "Bucher"})
    place = RootedPath(str(project), ("Kapitel.md",))
    for name in (f"Users/ada/{own}", f"users/Ada/{spelled}", f"Users/ada/{spelled}"):
        assert located(str(project), str(tmp_path / name / "Kapitel.md")) == place
    assert located(str(project), str(tmp_path / "Users/ada/Bucher/Kapitel.md")) is None, "another name"


def test_on_a_volume_with_case_another_spelling_is_another_directory(tmp_path: Path) -> None:
    for name in ("project", "Project"):
        (tmp_path / name).mkdir()
    assert located(str(tmp_path / "project"), str(tmp_path / "Project" / "a.py")) is None
    assert located(str(tmp_path / "project"), str(tmp_path / "PROJECT" / "a.py")) is None, "it does not exist"


def test_what_is_below_a_root_keeps_the_case_in_which_it_was_named(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    spell(tmp_path, project="Project")
    place = located(str(tmp_path / "project"), str(tmp_path / "Project" / "README.md"))
    assert place == RootedPath(str(tmp_path / "project"), ("README.md",))


def test_a_directory_that_is_too_broad_is_so_in_any_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "Users" / "ada" / "project"
    project.mkdir(parents=True)
    spell(tmp_path, Users="users", etc="ETC")
    spell(tmp_path / "Users", ada="Ada")
    (tmp_path / "etc" / "ssl").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "Users" / "ada"))
    monkeypatch.setattr(roots, "SYSTEM_DIRECTORIES", (tmp_path / "Users",))
    monkeypatch.setattr(roots, "SYSTEM_TREES", (tmp_path / "etc",))
    # There it resolves links, and these are none.
    monkeypatch.setattr(roots.os.path, "realpath", os.path.normpath)
    for wide in ("Users", "users", "Users/ada", "users/Ada", "users/ada", "ETC", "ETC/ssl"):
        assert roots_for(cwd=tmp_path / wide, project_dir="", operator_roots=[], http=False) == (), wide
    named = tmp_path / "users/Ada/project"
    assert roots_for(cwd=named, project_dir="", operator_roots=[], http=False) == (named,)


def test_elsewhere_no_root_has_a_second_name_below_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "sys", SimpleNamespace(platform="linux"))
    assert located("/private/tmp/project", "/tmp/project/a.py") is None  # noqa: S108
    assert located("/", "/srv/a.py") == RootedPath("/", ("srv", "a.py"))
