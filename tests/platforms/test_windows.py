"""What differs on Windows, as far as this machine can show it."""

from __future__ import annotations

import os
import sys
from pathlib import PureWindowsPath
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.files import path_spellings, roots, sandbox
from mcp_server_claude.files.sandbox import RootedPath, Roots, SandboxError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def windows_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox as on Windows, where `os` has no `openat` and no flag for directories."""
    monkeypatch.setattr(sandbox, "HAS_OPENAT", False)
    monkeypatch.setattr(sandbox, "_DIRECTORY_FLAGS", sandbox._FILE_FLAGS)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(sandbox, "sys", SimpleNamespace(platform="win32"))


@pytest.mark.parametrize("name", ["notes.md", "console.txt", "com.txt", "nullable.md", ".env.example", "a b.txt"])
def test_a_file_is_read_also_where_its_name_resembles_a_device(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("text", encoding="utf-8")
    real = os.path.realpath(tmp_path)
    with sandbox.open_in_roots(RootedPath(real, (name,)), Roots(((real, (real,)),))) as file:
        assert not file.is_directory
        assert file.read(100) == b"text"


@pytest.mark.parametrize("name", ["a.txt:secret", "NUL", "com1.log", "CONOUT$", "trailing.", "trailing ", "aux/b.txt"])
def test_streams_devices_and_names_that_windows_trims_are_never_opened(name: str, tmp_path: Path) -> None:
    if sys.platform != "win32":  # where most of them cannot be made
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("here it is a file", encoding="utf-8")
    real = os.path.realpath(tmp_path)
    with (
        pytest.raises(SandboxError),
        sandbox.open_in_roots(RootedPath(real, tuple(name.split("/"))), Roots(((real, (real,)),))),
    ):
        pass


@pytest.mark.parametrize(
    ("path", "is_system"),
    [
        (r"C:\Windows\System32", True),
        (r"C:\Program Files (x86)\Git", True),
        (r"C:\Users", True),
        (r"C:\ProgramData", True),
        (r"C:\Users\ada\project", False),
        (r"D:\work", False),
    ],
)
def test_no_system_directory_of_windows_is_a_root(path: str, is_system: bool) -> None:  # noqa: FBT001
    is_windows_system = roots._is_windows_system  # pyright: ignore[reportPrivateUsage]
    assert is_windows_system(PureWindowsPath(path)) is is_system


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (r"\\?\C:\work\a.txt", r"C:\work\a.txt"),
        (r"@\\?\C:\work\a.txt", r"C:\work\a.txt"),
        (r"\\?\UNC\host\share\a.txt", r"\\host\share\a.txt"),
        (r"\\host\share\a.txt", r"\\host\share\a.txt"),
        (r"\\.\C:\work\a.txt", r"\\.\C:\work\a.txt"),
        (r"\\?\GLOBALROOT\Device\a.txt", r"\\?\GLOBALROOT\Device\a.txt"),
    ],
)
def test_a_verbatim_path_is_read_without_its_prefix(written: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_spellings, "os", SimpleNamespace(sep="\\"))
    assert path_spellings.path_spellings(written)[-1].path == path
    monkeypatch.setattr(path_spellings, "os", SimpleNamespace(sep="/"))
    assert path_spellings.path_spellings(written)[-1].path == written.removeprefix("@")
