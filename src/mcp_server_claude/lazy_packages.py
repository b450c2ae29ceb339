"""Packages whose `__init__` imports its submodules only when one of their names is used.

An SDK that is generated offers every name of its thousands of submodules in the `__init__` of a few packages, so that
the import of one name imports them all. Python 3.15 can delay such imports itself (PEP 810); here the `__getattr__` of
a module does it (PEP 562).
"""

from __future__ import annotations

import ast
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader, all_suffixes
from importlib.util import resolve_name
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def make_packages_lazy(name: str) -> None:
    """Delay what the package `name` and the packages in it import in their `__init__`, from now on.

    Nothing changes for packages that are imported already, or whose `__init__` does more than to offer names.
    """
    sys.meta_path.insert(0, _LazyPackageFinder(name))


class _LazyPackageFinder(MetaPathFinder):
    """Finds modules as Python does, with another loader for the packages in `root`."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._prefix = f"{root}."

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._root and not fullname.startswith(self._prefix):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.submodule_search_locations and type(spec.loader) is SourceFileLoader:
            spec.loader = _LazyPackageLoader(fullname, spec.loader.path)
        return spec


class _LazyPackageLoader(SourceFileLoader):
    """Runs the `__init__` of a package when a name is used that it does not import from a submodule."""

    def exec_module(self, module: ModuleType) -> None:
        exports = _find_exports(ast.parse(self.get_data(self.path)), module.__name__, Path(self.path).parent)
        if exports is None:
            super().exec_module(module)
            return
        namespace = vars(module)

        was_run = False

        def get_name(name: str) -> Any:
            nonlocal was_run
            if name in exports.submodules:
                return import_module(f"{module.__name__}.{name}")
            if (source := exports.sources.get(name)) is not None:
                value = getattr(import_module(source[0]), source[1])
                if name in exports.renamed:
                    with suppress(TypeError, AttributeError):
                        value.__module__ = module.__name__
                return namespace.setdefault(name, value)
            # A star import asks for `__all__`, and takes every public name where there is none.
            can_exist = name in exports.others or name == "__all__" or (exports.has_star and not name.startswith("__"))
            if can_exist:
                if not was_run:
                    # Two threads at a time run it twice, with the same outcome. A lock could wait for one of
                    # importlib's.
                    super(_LazyPackageLoader, self).exec_module(module)
                    was_run = True
                with suppress(KeyError):
                    return namespace[name]
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        namespace["__getattr__"] = get_name
        for name in exports.called:
            get_name(name)()


@dataclass
class _Exports:
    """The names that the `__init__` of a package offers."""

    submodules: frozenset[str]
    sources: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """The module that each name is imported from, and its name there."""
    others: set[str] = field(default_factory=set[str])
    """Names that are bound in another way."""
    has_star: bool = False
    called: list[str] = field(default_factory=list[str])
    """Imported functions that are called without arguments, as at the end of an `__init__` that sets up logging."""
    renamed: frozenset[str] = frozenset()
    """Names whose values have this package as their `__module__`."""


def _find_exports(tree: ast.Module, package: str, directory: Path) -> _Exports | None:
    """The exports of a package; None if its `__init__` does more than to offer names."""
    exports = _Exports(frozenset(_submodule_names(directory)))
    for statement in tree.body:
        if not (_add_import(exports, statement, package) or _add_other(exports, statement, tree)):
            return None
    for name, source in list(exports.sources.items()):
        if name in exports.submodules:
            if source != (package, name):
                return None  # the import of the submodule would set this name to the module
            del exports.sources[name]
    return exports if exports.sources and set(exports.called) <= set(exports.sources) else None


def _submodule_names(directory: Path) -> Iterator[str]:
    """The names of the modules and packages in a directory."""
    suffixes = ("", *all_suffixes())
    for path in directory.iterdir():
        name, dot, suffix = path.name.partition(".")
        if dot + suffix in suffixes and not name.startswith("__"):
            yield name


def _add_import(exports: _Exports, statement: ast.stmt, package: str) -> bool:
    """Add the names of an import; False if it is none."""
    match statement:
        case ast.ImportFrom(level=0) | ast.Import():
            exports.others |= {each.asname or each.name.partition(".")[0] for each in statement.names}
        case ast.ImportFrom(module=module, level=level):
            source = resolve_name("." * level + (module or ""), package)
            for each in statement.names:
                if each.name == "*":
                    exports.has_star = True
                else:
                    exports.sources[each.asname or each.name] = (source, each.name)
        case _:
            return False
    return True


def _add_other(exports: _Exports, statement: ast.stmt, tree: ast.Module) -> bool:
    """Add the names of an assignment, or of what can wait beside it; False for anything else."""
    match statement:
        case ast.Expr(value=ast.Constant()):
            pass
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            exports.others.add(name)
        case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=[], keywords=[])):
            exports.called.append(name)
        case ast.If(test=test, body=body, orelse=[]) if ast.unparse(test).endswith("TYPE_CHECKING"):
            exports.others |= {
                each.asname or each.name for node in body if isinstance(node, ast.ImportFrom) for each in node.names
            }
            return all(isinstance(node, ast.ImportFrom) for node in body)
        case ast.For(iter=ast.Name(id="__all__")) if _sets_module_alone(statement):
            exports.renamed = frozenset(_listed_names(tree))
        case _:
            return False
    return True


def _sets_module_alone(loop: ast.For) -> bool:
    """True if a loop does nothing but to set `__module__` of values."""
    effects = [node for node in ast.walk(loop) if isinstance(node, ast.Assign | ast.AugAssign | ast.Delete | ast.Expr)]
    return bool(effects) and all(
        isinstance(node, ast.Assign)
        and all(isinstance(each, ast.Attribute) and each.attr == "__module__" for each in node.targets)
        for node in effects
    )


def _listed_names(tree: ast.Module) -> list[str]:
    """The names in `__all__`."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=names)):
                return [each.value for each in names if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            case _:
                pass
    return []
