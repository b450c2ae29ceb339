"""The checks of `scripts/structure.py`, on small packages with one flaw each."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.paths import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = REPOSITORY / "scripts" / "structure.py"
SOUND = {"__init__": "", "one": "from package import two\n", "two": 'def read_two() -> int:\n    """Read two."""\n'}


def _check(folder: Path, modules: dict[str, str]) -> tuple[int, str]:
    package = folder / "package"
    for name, text in modules.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = subprocess.run([sys.executable, SCRIPT, package], check=False, capture_output=True, text=True)
    assert not done.stderr
    return done.returncode, done.stdout


def test_a_correct_package_passes(tmp_path: Path) -> None:
    code, output = _check(tmp_path, SOUND)
    assert code == 0, output
    assert "exceeded" not in output


@pytest.mark.parametrize(
    ("figure", "modules"),
    [
        ("import cycles", {"two": "def read_two() -> None:\n    from package.one import x\n"}),
        ("import cycles", {"two": "if TYPE_CHECKING:\n    from package import one\n"}),
        ("import cycles", {"two": "from . import one\n"}),
        ("longest import chain", {f"m{n}": f"from package import m{n + 1}\n" for n in range(18)} | {"m18": ""}),
        ("class names", {"a": "class Reader: ...\n", "b": "class Reader: ...\n"}),
        ("imports inside functions", {"a": "def load() -> None:\n" + "    import json\n" * 61}),
        ("participles", {"a": "def load(told: str) -> None: ...\n"}),
        ("participles", {"a": "class Reader:\n    def __init__(self) -> None:\n        self._kept = 1\n"}),
        ("participles", {"a": "class Reader:\n    made: int = 1\n"}),
        ("limits", {"a": "_MOST_BYTES = 3\n"}),
        ("docstrings that open", {"a": '"""What is read."""\n'}),
        ("packages at the top", {f"p{n}/__init__": "" for n in range(26)}),
        ("function names", {f"m{m}": "".join(f"def load_{n}(): ...\n" for n in range(41)) for m in range(3)}),
    ],
)
def test_each_flaw_is_reported_by_its_figure(tmp_path: Path, figure: str, modules: dict[str, str]) -> None:
    code, output = _check(tmp_path, SOUND | modules)
    assert code == 1
    exceeded = [line for line in output.splitlines() if line.endswith("exceeded")]
    assert len(exceeded) == 1, output
    assert exceeded[0].startswith(figure)


def test_a_type_only_import_is_no_part_of_the_longest_chain(tmp_path: Path) -> None:
    chain = {f"m{n}": f"if TYPE_CHECKING:\n    from package import m{n + 1}\n" for n in range(30)} | {"m30": ""}
    code, output = _check(tmp_path, SOUND | chain)
    assert code == 0, output
