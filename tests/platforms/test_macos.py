"""What differs on macOS, as far as another system can show it: directories with two names, and names without case."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest

from mcp_server_claude.files import sandbox
from mcp_server_claude.files.roots import FilePolicy
from mcp_server_claude.files.sandbox import RootedPath, Roots


@pytest.fixture(autouse=True)
def macos_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox as on macOS, whose `/tmp`, `/var` and `/etc` are links to `/private`."""
    monkeypatch.setattr(sandbox, "sys", SimpleNamespace(platform="darwin"))


def located(root: str, path: str) -> RootedPath | None:
    return Roots.from_policy(FilePolicy(roots=(Path(root),))).locate(path)


@pytest.mark.parametrize("name", ["/private/tmp/project/src/a.py", "/tmp/project/src/a.py", "/TMP/Project/src/a.py"])  # noqa: S108
def test_a_root_below_private_is_named_with_and_without_it_and_in_any_case(name: str) -> None:
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


@pytest.mark.parametrize("name", ["/Users/Ada/Bücher/Kapitel.md", "/users/ada/BÜCHER/Kapitel.md"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_the_case_and_the_normal_form_of_a_root_need_not_be_those_of_the_operator(name: str, form: str) -> None:
    spelled = unicodedata.normalize("NFC" if form == "NFC" else "NFD", name)
    assert located("/Users/ada/Bücher", spelled) == RootedPath("/Users/ada/Bücher", ("Kapitel.md",))
    assert located("/Users/ada/Bücher", "/Users/ada/Bucher/Kapitel.md") is None


def test_what_is_below_a_root_keeps_the_case_in_which_it_was_named() -> None:
    place = located("/Users/ada/project", "/users/ada/project/README.md")
    assert place is not None
    assert place.path == "/Users/ada/project/README.md"


def test_elsewhere_the_case_of_a_root_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "sys", SimpleNamespace(platform="linux"))
    assert located("/srv/project", "/srv/Project/a.py") is None
    assert located("/private/tmp/project", "/tmp/project/a.py") is None  # noqa: S108
    assert located("/", "/srv/a.py") == RootedPath("/", ("srv", "a.py"))
