"""Paths as clients write them: `file:` URIs, `@path`, lines as `path:10-20`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.anthropic_api.models.model_capabilities import ClaudeModel
from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import read_file, summarize_files
from support.file_tree import CANARY, INSIDE_TEXT, FileTree, blocks_json, png
from support.symbolic_links import needs_links

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def lines(tree: FileTree) -> Path:
    path = tree.root / "src/long name.py"
    path.write_text("".join(f"line {n}\n" for n in range(1, 31)), newline="\n")
    return path


def spelled(name: str, tree: FileTree) -> str:
    """A name with the root in it; in a URI a path begins with a slash, also before the drive of Windows."""
    uri_path = f"/{tree.root.as_posix().lstrip('/')}"
    return name.format(root=tree.root, uri=uri_path, encoded_uri=uri_path.replace(":", "%3A"))


@pytest.mark.parametrize(
    "name",
    [
        *(
            "@src/a.py",
            '@"src/a.py"',
            "file://{uri}/src/a.py",
            "file://{encoded_uri}/src/a.py",
            "FILE:{uri}/src/a.py",
            "file://localhost{uri}/src/a.py",
        ),
        *("file://{uri}/src/%61.py", "@{root}/src/a.py", "src/a.py:1", "@src/a.py:1-1", "file://{uri}/src/a.py#L1"),
    ],
)
def test_every_spelling_of_a_path_leads_to_the_file(tree: FileTree, name: str) -> None:
    (block,) = tree.attach(spelled(name, tree)).blocks
    assert 'path="src/a.py"' in str(block["text"])
    assert INSIDE_TEXT in str(block["text"])


@pytest.mark.parametrize(
    ("suffix", "part"),
    [
        (":3-5", "3-5"),
        (":3", "3"),
        (":3:17", "3"),
        ("#L3-L5", "3-5"),
        ("#L3-5", "3-5"),
        (":29-99", "29-30"),
        (":1-30", "1-30"),
    ],
)
def test_only_the_named_lines_are_sent(tree: FileTree, lines: Path, suffix: str, part: str) -> None:
    del lines
    (block,) = tree.attach(f"src/long name.py{suffix}").blocks
    first, _, last = part.partition("-")
    body = "".join(f"line {n}\n" for n in range(int(first), int(last or first) + 1))
    assert block["text"] == f'<file index="1" path="src/long name.py" lines="{part} of 30">\n{body}</file>'
    assert summarize_files([block])[0].name == f"src/long name.py:{part}"


def test_different_lines_of_one_file_are_different_entries(tree: FileTree, lines: Path) -> None:
    del lines
    names = ("src/long name.py:1-2", "src/long name.py:4-5", "@src/long name.py:1-2")
    assert len(tree.attach(*names).blocks) == 2


def test_a_file_named_like_a_spelling_is_that_file(tree: FileTree) -> None:
    for name in ("@src", "a.txt#L3", *(("a.txt:3",) if sys.platform != "win32" else ())):  # there a stream of a.txt
        (tree.root / name).parent.mkdir(exist_ok=True)
        (tree.root / name).write_text(f"literally {name}")
        (block,) = tree.attach(name).blocks
        assert f"literally {name}" in str(block["text"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("src/nope.py:3-5", r'There is no "src/nope\.py"'),
        ("@src/nope.py", r'There is no "src/nope\.py"'),
        ("src/a.py:7-9", r"has 1 line; line 7 is after its end"),
        ("shot.png:1-2", r"is not a text file"),
        ("src/*.py:1-2", r"is a glob with lines"),
        ("file://elsewhere/etc/hosts", r"names a file of this machine"),
        ("file:///etc/passwd", r"outside the directories that may be read"),
        ("file://{uri}/%2e%2e/outside/canary.txt", r"outside the directories that may be read"),
        ("file://{uri}/a%00b", r"NUL character"),
        ("@.env", r"may contain a secret"),
        ("@.env:1-3", r"may contain a secret"),
        ("file://{uri}/.env", r"may contain a secret"),
        ("@../outside/canary.txt:1", r"outside the directories that may be read"),
        pytest.param("@out", r"leads outside", marks=needs_links),
    ],
)
def test_an_unsupported_spelling_is_rejected_by_its_meaning(tree: FileTree, name: str, message: str) -> None:
    (tree.root / "shot.png").write_bytes(png())
    with pytest.raises(RequestError, match=message) as refused:
        tree.attach(spelled(name, tree))
    assert CANARY not in str(refused.value)


def test_an_at_sign_before_a_glob_is_ignored(tree: FileTree) -> None:
    assert blocks_json(tree.attach("@src/*.py").blocks) == blocks_json(tree.attach("src/*.py").blocks)


def test_the_read_tool_understands_the_same_spellings(tree: FileTree, lines: Path) -> None:
    model = ClaudeModel(id="claude-test")
    for name in ("@src/long name.py:3-4", f"{lines.as_uri()}#L3-L4"):
        text = read_file(name, tree.rules, model=model)
        assert isinstance(text, str)
        assert text.startswith("     3\tline 3\n     4\tline 4")
    with pytest.raises(RequestError, match="may contain a secret"):
        read_file("@.env", tree.rules, model=model)
