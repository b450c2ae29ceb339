"""That the tests can be collected on Windows: one module that imports what only POSIX has ends the whole run there."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from support.simulated_windows import MISSING_MODULES

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]


def imported_on_windows(statements: list[ast.stmt]) -> Iterator[str]:
    """The modules that these statements import on every system; what is in functions and conditions is not."""
    for statement in statements:
        match statement:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield module
                yield from (f"{module}.{name.name}" for name in names)
            case ast.Try(body=body) | ast.With(body=body) | ast.ClassDef(body=body):
                yield from imported_on_windows(body)
            case _:
                pass


def missing_on_windows(file: Path, seen: set[Path]) -> Iterator[str]:
    """The modules that Windows lacks and that the import of a file needs, with those of the tests that it imports."""
    seen.add(file)
    for module in imported_on_windows(ast.parse(file.read_text(encoding="utf-8")).body):
        if module.partition(".")[0] in MISSING_MODULES:
            yield f"{file.relative_to(TESTS)}: {module}"
        path = TESTS.joinpath(*module.split("."))
        for each in (path.with_suffix(".py"), path / "__init__.py"):
            if each.is_file() and each not in seen:
                yield from missing_on_windows(each, seen)


def test_no_module_of_the_tests_needs_one_of_posix_to_be_collected() -> None:
    seen: set[Path] = set()
    collected = [*TESTS.rglob("test_*.py"), *TESTS.rglob("conftest.py")]
    assert not [needed for file in collected for needed in missing_on_windows(file, seen)]
    assert len(collected) > 200
    assert TESTS / "support" / "interop" / "installations.py" in seen


def test_one_that_does_is_found() -> None:
    found = set(missing_on_windows(TESTS / "support" / "pseudo_terminal.py", set()))
    assert {"support/pseudo_terminal.py: fcntl", "support/pseudo_terminal.py: termios"} <= {
        each.replace("\\", "/") for each in found
    }
