"""Files, links and directories that are swapped while they are read: nothing from outside ever comes along."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import grep_files, list_directory, sandbox
from support import file_tree
from support.file_tree import CANARY, INSIDE_TEXT, FileTree, blocks_json, read_tool_text, run_with_timeout
from support.symbolic_links import needs_links

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

ROUNDS = 150

pytestmark = pytest.mark.usefixtures("way")


@contextmanager
def meanwhile(swap: Callable[[], None]) -> Generator[None]:
    """`swap` again and again in another thread."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            swap()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def at_call(patch: pytest.MonkeyPatch, names: set[str], acts: Mapping[int, Callable[[], None]]) -> None:
    """Let something happen right before the n-th system call that looks at or opens one of these names."""
    count = itertools.count(1)
    busy: list[bool] = []

    def watched(original: Callable[..., object]) -> Callable[..., object]:
        def call(path: object, *arguments: object, **options: object) -> object:
            if not busy and isinstance(path, str) and path.rpartition("/")[2] in names:
                busy.append(True)
                acts.get(next(count), lambda: None)()
                busy.clear()
            return original(path, *arguments, **options)

        return call

    for name in ("open", "stat", "lstat", "readlink"):
        patch.setattr(sandbox.os, name, watched(getattr(os, name)))


def outcome(work: Callable[[], str]) -> str:
    try:
        return work()
    except RequestError as refused:
        return str(refused)


def rounds(work: Callable[[], str]) -> list[str]:
    return run_with_timeout(lambda: [outcome(work) for _ in range(ROUNDS)])


SWAPS = {
    "a file for a link": ("one/canary.txt", "one/canary.txt", "../../outside/canary.txt"),
    "a directory for a link": ("one/canary.txt", "one", "../outside"),
    "a directory for a link to /": ("one/etc/passwd", "one", "/"),
    "a file for a link to a device": ("one/canary.txt", "one/canary.txt", "/dev/zero"),
    "a file for a link to itself": ("one/canary.txt", "one/canary.txt", "canary.txt"),
}


@pytest.mark.parametrize("moment", range(1, 13))
@pytest.mark.parametrize("back", [0, 1, 2], ids=["for good", "and back", "and back later"])
@pytest.mark.parametrize(("name", "swapped", "target"), SWAPS.values(), ids=SWAPS.keys())
def test_a_swap_at_the_worst_moment_leaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, swapped: str, target: str, moment: int, back: int
) -> None:
    tree = file_tree.build_empty_tree(tmp_path)
    file = tree.root / name
    file.parent.mkdir(parents=True)
    file.write_text(INSIDE_TEXT)
    victim, aside = tree.root / swapped, tree.root / "aside"

    def swap() -> None:
        victim.rename(aside)
        victim.symlink_to(target)

    def swap_back() -> None:
        if victim.is_symlink():
            victim.unlink()
            aside.rename(victim)

    acts = {moment: swap, moment + back: swap_back} if back else {moment: swap}
    at_call(monkeypatch, {victim.name, file.name}, acts)
    for _ in range(2):
        seen = outcome(lambda: run_with_timeout(lambda: blocks_json(tree.attach(name).blocks)))
        assert CANARY not in seen
        assert "root:x:0" not in seen


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in its file system")
@pytest.mark.parametrize("moment", range(1, 5))
def test_a_pipe_in_place_of_a_file_never_blocks(tree: FileTree, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    def swap() -> None:
        (tree.root / "a.txt").unlink()
        os.mkfifo(tree.root / "a.txt")

    at_call(monkeypatch, {"a.txt"}, {moment: swap})
    with pytest.raises(RequestError, match="not a regular file"):
        tree.attach("a.txt")


@pytest.mark.parametrize("moment", range(1, 9))
def test_an_editor_that_saves_in_between_does_not_fail_the_call(
    tree: FileTree, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    def save() -> None:
        (tree.root / "spare").write_text("saved, from within")
        (tree.root / "spare").replace(tree.root / "a.txt")

    at_call(monkeypatch, {"a.txt"}, {moment: save})
    assert "from within" in tree.attached_texts("a.txt")[0]


@needs_links
def test_a_file_that_becomes_a_link_and_back_leaks_nothing(tree: FileTree) -> None:
    target, file, link = tree.root / "target.txt", tree.root / "t1", tree.root / "t2"

    def swap() -> None:
        file.write_text(INSIDE_TEXT)
        file.replace(target)
        link.symlink_to(tree.outside / "canary.txt")
        link.replace(target)

    swap()
    with meanwhile(swap):
        seen = rounds(lambda: blocks_json(tree.attach("target.txt").blocks))
        seen += rounds(lambda: read_tool_text("target.txt", tree.rules))
    assert not any(CANARY in each for each in seen)


@needs_links
@pytest.mark.slow
def test_a_directory_that_becomes_a_link_in_mid_walk_leaks_nothing(tree: FileTree, way: str) -> None:
    deep = tree.root / "one/two/three"
    deep.mkdir(parents=True)
    (deep / "canary.txt").write_text(INSIDE_TEXT)
    (tree.outside / "two/three").mkdir(parents=True)
    (tree.outside / "two/three/canary.txt").write_text(CANARY)
    one, aside = tree.root / "one", tree.root / "aside"

    def swap() -> None:
        one.rename(aside)
        one.symlink_to(tree.outside)
        one.unlink()
        aside.rename(one)

    with meanwhile(swap):
        seen = rounds(lambda: blocks_json(tree.attach("one/two/three/canary.txt").blocks))
        seen += rounds(lambda: read_tool_text("one/two/three/canary.txt", tree.rules))
        seen += rounds(lambda: list_directory("one", tree.rules))
    assert not any(CANARY in each for each in seen)
    assert way == "resolve" or not any("a.py" in each for each in seen[2 * ROUNDS :])


@needs_links
def test_a_link_that_points_in_and_out_leaks_nothing(tree: FileTree) -> None:
    link = tree.root / "turning"

    def swap() -> None:
        for target in (tree.root / "a.txt", tree.outside / "canary.txt", "/etc/passwd", "turning", "/dev/zero"):
            spare = tree.root / "spare"
            spare.symlink_to(target)
            spare.replace(link)

    swap()
    with meanwhile(swap):
        seen = rounds(lambda: blocks_json(tree.attach("turning").blocks))
    assert not any(CANARY in each or "root:x:0" in each for each in seen)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in its file system")
def test_a_file_that_becomes_a_pipe_never_hangs(tree: FileTree) -> None:
    target, spare = tree.root / "target.txt", tree.root / "spare"

    def swap() -> None:
        os.mkfifo(spare)
        spare.replace(target)
        spare.write_text(INSIDE_TEXT)
        spare.replace(target)

    swap()
    with meanwhile(swap):
        seen = rounds(lambda: blocks_json(tree.attach("target.txt").blocks))
    assert len(seen) == ROUNDS


def test_a_growing_file_is_read_up_to_its_first_length(tree: FileTree) -> None:
    log = tree.root / "log.txt"
    log.write_text("a line\n")

    def grow() -> None:
        with log.open("a") as file:
            file.write("another line\n" * 1_000)
        if log.stat().st_size > 5_000_000:
            log.write_text("a line\n")

    with meanwhile(grow):
        seen = rounds(lambda: "sent" if tree.attach("log.txt", max_file_bytes=1_000_000).blocks else "")
    assert all(each == "sent" or "at most" in each or "is empty" in each for each in seen)


@needs_links
def test_globs_and_searches_in_a_swapped_tree_leak_nothing(tree: FileTree) -> None:
    live, aside = tree.root / "live", tree.root / "aside"
    live.mkdir()
    (live / "canary.txt").write_text(INSIDE_TEXT)

    def swap() -> None:
        live.rename(aside)
        live.symlink_to(tree.outside)
        live.unlink()
        aside.rename(live)

    with meanwhile(swap):
        for _ in range(15):
            seen = outcome(lambda: blocks_json(run_with_timeout(lambda: tree.attach("live/*.txt")).blocks))
            found = outcome(lambda: run_with_timeout(lambda: grep_files("c4n4ry|within", "live/**", tree.rules)))
            assert CANARY not in seen
            assert CANARY not in found
