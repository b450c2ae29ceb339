"""Measure the structure of the package and exit 1 if it is beyond the limits: python scripts/structure.py [--names].

Reads the source as a syntax tree; nothing is imported or run. `--names` lists the names behind each figure. A figure
that has not reached its limit yet has a ceiling in `CEILINGS`, which may only be lowered.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "mcp_server_claude"
QUESTION_WORD = re.compile(r"(What|Who|Whose|Whether|How|Where|Whatever|Whoever)\b")
PARTICIPLES = frozenset({"told", "made", "kept", "given", "shown", "heard", "said", "found", "asked", "wanted", "seen"})
LIMIT_WORDS = ("MOST_", "LEAST_", "LONGEST_", "SHORTEST_", "LARGEST_", "SMALLEST_", "DEEPEST_", "FEW_")

CEILINGS: dict[str, float] = {}

Graph: TypeAlias = "dict[str, set[str]]"
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Definition: TypeAlias = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Limit:
    """A figure, the largest value that passes, and the names behind the figure."""

    figure: str
    value: float
    maximum: float
    names: Sequence[str] = ()


@dataclass
class Findings:
    """Names and imports of all modules."""

    runtime_imports: Graph = field(default_factory=dict[str, set[str]])
    all_imports: Graph = field(default_factory=dict[str, set[str]])
    local_imports: list[str] = field(default_factory=list[str])
    classes: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    functions: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    participles: list[str] = field(default_factory=list[str])
    limits: list[str] = field(default_factory=list[str])
    docstrings: int = 0
    questions: list[str] = field(default_factory=list[str])


def main() -> int:
    """Print every figure beside its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("package", nargs="?", type=Path, help="the directory of another package, without ceilings")
    parser.add_argument("--names", action="store_true", help="list the names behind each figure")
    options = parser.parse_args()
    ceilings: Mapping[str, float] = {} if options.package else CEILINGS
    exceeded = False
    for limit in check_limits((options.package or PACKAGE).resolve()):
        ceiling = max(limit.maximum, ceilings.get(limit.figure, 0))
        over = limit.value > ceiling
        exceeded = exceeded or over
        allowed = f"at most {limit.maximum:g}" + (f", for now {ceiling:g}" if ceiling > limit.maximum else "")
        print(f"{limit.figure:46} {limit.value:7g}  ({allowed}){' exceeded' if over else ''}")
        if options.names or over:
            for name in limit.names:
                print(f"    {name}")
    return 1 if exceeded else 0


def check_limits(root: Path) -> Iterator[Limit]:
    """Measure a package against the limits that the design sets."""
    findings = read_package(root)
    packages = [str(each.relative_to(root)) for each in _packages(root)]
    yield Limit("packages at the top two levels", len(packages), 25, packages)
    cycles = [" ↔ ".join(group) for group in find_cycles(findings.all_imports)]
    yield Limit("import cycles, type-only imports included", len(cycles), 0, cycles)
    chain = find_longest_chain(findings.runtime_imports)
    yield Limit("longest import chain at run time", len(chain), 18, [" → ".join(chain)])
    yield Limit("imports inside functions", len(findings.local_imports), 60, findings.local_imports)
    classes = [_where(name, modules) for name, modules in sorted(findings.classes.items()) if len(modules) > 1]
    yield Limit("class names in more than one module", len(classes), 0, classes)
    common = [_where(name, modules) for name, modules in sorted(findings.functions.items()) if len(modules) > 2]
    yield Limit("function names in three or more modules", len(common), 40, common)
    yield Limit("participles as names", len(findings.participles), 0, findings.participles)
    yield Limit("limits not named MAX_ or MIN_", len(findings.limits), 0, findings.limits)
    share = round(100 * len(findings.questions) / max(findings.docstrings, 1), 1)
    yield Limit("docstrings that open with a question word, %", share, 2, findings.questions)


def read_package(root: Path) -> Findings:
    """Parse every module below a package's directory."""
    findings = Findings()
    paths = {_module_name(root, path): path for path in sorted(root.rglob("*.py"))}
    for name, path in paths.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        _read_imports(findings, tree, name, package, paths)
        _read_names(findings, tree, name)
    return findings


def find_cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Find the groups of modules that import each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return groups


def find_longest_chain(graph: Mapping[str, set[str]]) -> list[str]:
    """Find the longest path of imports; a cycle is cut where it closes."""
    longest: dict[str, list[str]] = {}
    visiting: set[str] = set()

    def visit(node: str) -> list[str]:
        if node not in longest:
            visiting.add(node)
            tails = [visit(other) for other in sorted(graph.get(node, ())) if other not in visiting]
            visiting.discard(node)
            longest[node] = [node, *max(tails, key=len, default=list[str]())]
        return longest[node]

    return max((visit(node) for node in graph), key=len, default=list[str]())


def _packages(root: Path) -> list[Path]:
    levels = (*root.glob("*/__init__.py"), *root.glob("*/*/__init__.py"))
    return sorted(each.parent for each in levels)


def _module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read_imports(findings: Findings, tree: ast.Module, name: str, package: str, modules: Mapping[str, Path]) -> None:
    every, runtime = set[str](), set[str]()
    type_only = {id(each) for each in _type_only(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            targets = _import_targets(node, package, modules) - {name}
            every |= targets
            if id(node) not in type_only:
                runtime |= targets
    findings.all_imports[name], findings.runtime_imports[name] = every, runtime


def _type_only(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", getattr(node.test, "attr", "")) == "TYPE_CHECKING":
            for statement in node.body:
                yield from ast.walk(statement)


def _import_targets(node: ast.Import | ast.ImportFrom, package: str, modules: Mapping[str, Path]) -> set[str]:
    if isinstance(node, ast.Import):
        return {each.name for each in node.names if each.name in modules}
    base = node.module or ""
    if node.level:
        parts = package.split(".")
        base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
    named = {f"{base}.{each.name}" for each in node.names}
    return {each if each in modules else base for each in named if each in modules or base in modules}


def _read_names(findings: Findings, tree: ast.Module, name: str) -> None:
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef():
                findings.classes[node.name].add(name)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                _read_function(findings, node, name)
            case ast.Attribute(value=ast.Name(id="self"), attr=attribute, ctx=ast.Store()):
                _note_participle(findings, attribute, name)
            case _:
                pass
        if isinstance(node, ast.Module | ast.ClassDef):
            _read_assigned(findings, node.body, name)
        if isinstance(node, Definition):
            _read_docstring(findings, node, name)


def _read_function(findings: Findings, node: Function, module: str) -> None:
    if not node.name.startswith("__"):
        findings.functions[node.name.lstrip("_")].add(module)
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    for each in (node.name, *(argument.arg for argument in arguments)):
        _note_participle(findings, each, module)
    for each in ast.walk(node):
        if isinstance(each, ast.Import | ast.ImportFrom):
            findings.local_imports.append(f"{module}.{node.name}: {ast.unparse(each)}")


def _read_assigned(findings: Findings, body: Sequence[ast.stmt], module: str) -> None:
    """Read the names that a module or a class assigns in its body; local variables are not part of the structure."""
    for statement in body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            for each in ast.walk(statement):
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                    _note_participle(findings, each.id, module)
                    if each.id.lstrip("_").startswith(LIMIT_WORDS):
                        findings.limits.append(f"{module}.{each.id}")


def _note_participle(findings: Findings, name: str, module: str) -> None:
    if name.strip("_").lower() in PARTICIPLES:
        findings.participles.append(f"{module}: {name}")


def _read_docstring(findings: Findings, node: Definition, module: str) -> None:
    docstring = ast.get_docstring(node)
    if docstring:
        findings.docstrings += 1
        if QUESTION_WORD.match(docstring):
            findings.questions.append(f"{module}.{getattr(node, 'name', '')}: {docstring.splitlines()[0]}")


def _where(name: str, modules: set[str]) -> str:
    return f"{name}: {', '.join(sorted(modules))}"


if __name__ == "__main__":
    sys.exit(main())
