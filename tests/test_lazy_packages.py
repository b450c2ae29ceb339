"""Packages that import their submodules when a name is used, and that nobody sees a difference."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

import pytest

from mcp_server_claude.lazy_packages import make_packages_lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path
    from types import ModuleType

ImportPackage: TypeAlias = "Callable[[Mapping[str, str]], ModuleType]"

NAMES_OF_THE_SDK = """
import importlib, json, pkgutil, sys
{preparation}
import anthropic

def described(value):
    if hasattr(value, "__qualname__") and hasattr(value, "__module__"):
        return f"{{type(value).__name__}} {{value.__module__}}.{{value.__qualname__}}"
    return type(value).__name__

names = json.load(sys.stdin)
if not names:
    packages = ["anthropic"]
    packages += [each.name for each in pkgutil.walk_packages(anthropic.__path__, "anthropic.") if each.ispkg]
    for package in packages:
        try:
            names[package] = sorted(
                name for name, value in vars(importlib.import_module(package)).items()
                if name not in ("__builtins__", "__loader__") and not isinstance(value, type(sys))
            )
        except ImportError:
            pass
print(json.dumps({{package: {{name: described(getattr(importlib.import_module(package), name)) for name in listed}}
                  for package, listed in names.items()}}))
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[ImportPackage]:
    """Writes the files of a package, makes it lazy and imports it."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    finders = list(sys.meta_path)

    def import_package(files: Mapping[str, str]) -> ModuleType:
        for name, text in files.items():
            path = tmp_path / "generated_sdk" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        make_packages_lazy("generated_sdk")
        return import_module("generated_sdk")

    yield import_package
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.partition(".")[0] == "generated_sdk"]:
        del sys.modules[name]


def imported() -> set[str]:
    """The submodules that are imported now."""
    return {name.removeprefix("generated_sdk.") for name in sys.modules if name.startswith("generated_sdk.")}


def test_submodule_is_imported_when_its_name_is_used(package: ImportPackage) -> None:
    sdk = package(
        {
            "__init__.py": '"""An SDK."""\nfrom .one import One\nfrom .two import Two as Second, THREE\n',
            "one.py": "class One: ...",
            "two.py": "class Two: ...\nTHREE = 3",
        }
    )
    assert imported() == set()
    assert sdk.One is import_module("generated_sdk.one").One
    assert imported() == {"one"}
    assert (sdk.Second.__name__, sdk.THREE) == ("Two", 3)
    assert "THREE" in vars(sdk)


def test_nested_packages_are_lazy_too(package: ImportPackage) -> None:
    sdk = package(
        {
            "__init__.py": "from .types import A\nfrom . import types\n",
            "types/__init__.py": "from .a import A\nfrom .b import B\n",
            "types/a.py": "class A: ...",
            "types/b.py": "from .a import A\nclass B(A): ...",
        }
    )
    assert sdk.types.A is sdk.A
    assert imported() == {"types", "types.a"}
    assert issubclass(sdk.types.B, sdk.A)


def test_submodules_are_found_as_attributes(package: ImportPackage) -> None:
    files = {"__init__.py": "from .one import One\n", "one.py": "from . import two\nOne = two.TWO", "two.py": "TWO = 2"}
    sdk = package(files)
    assert sdk.One == 2
    assert sdk.two is import_module("generated_sdk.two")


def test_submodules_are_found_as_attributes_after_the_whole_package_was_run(package: ImportPackage) -> None:
    sdk = package({"__init__.py": "from .one import One\nALIAS = One\n", "one.py": "One = 1", "more/__init__.py": ""})
    assert sdk.ALIAS == 1
    assert sdk.more is import_module("generated_sdk.more")


@pytest.mark.parametrize("name", ["missing", "__wrapped__", "__version__", "py", "__pycache__"])
def test_unknown_name_is_an_attribute_error_and_imports_nothing(package: ImportPackage, name: str) -> None:
    sdk = package({"__init__.py": "from .one import One\n", "one.py": "One = 1", "py.typed": ""})
    with pytest.raises(AttributeError, match=f"module 'generated_sdk' has no attribute '{name}'"):
        getattr(sdk, name)
    assert imported() == set()


def test_other_names_run_the_whole_package(package: ImportPackage) -> None:
    sdk = package(
        {
            "__init__.py": "import typing\nfrom .one import One\nfrom .two import *\nAlias = One\n",
            "one.py": "class One: ...",
            "two.py": "TWO, THREE, _four = 2, 3, 4\n__all__ = ['TWO']",
        }
    )
    assert imported() == set()
    assert sdk.Alias is sdk.One
    assert sdk.TWO == 2
    assert sdk.typing.TYPE_CHECKING is False
    for name in ("THREE", "_four", "missing"):
        with pytest.raises(AttributeError):
            getattr(sdk, name)


@pytest.mark.parametrize("listed", ["", "__all__ = ['One', 'alias']\n"])
def test_star_import_gets_every_name(package: ImportPackage, listed: str) -> None:
    package({"__init__.py": f"{listed}from .one import One\nalias = 1\n", "one.py": "One = 1"})
    names: dict[str, object] = {}
    exec("from generated_sdk import *", names)  # noqa: S102
    assert names.keys() >= {"One", "alias"}


def test_logging_is_set_up_at_once_and_names_have_their_package_as_module(package: ImportPackage) -> None:
    sdk = package(
        {
            "__init__.py": """
import typing as _t
from .one import One, NUMBER
from ._logs import set_up as _set_up

__all__ = ["One", "NUMBER"]

if not _t.TYPE_CHECKING:
    from .one import HIDDEN

_set_up()

__locals = locals()
for __name in __all__:
    if not __name.startswith("__"):
        try:
            __locals[__name].__module__ = "generated_sdk"
        except (TypeError, AttributeError):
            pass
""",
            "one.py": "class One: ...\nNUMBER = 1\nHIDDEN = 2",
            "_logs.py": "calls = []\ndef set_up(): calls.append(1)",
        }
    )
    assert imported() == {"_logs"}
    assert import_module("generated_sdk._logs").calls == [1]
    assert sdk.One.__module__ == "generated_sdk"
    assert (sdk.NUMBER, sdk.HIDDEN) == (1, 2)


@pytest.mark.parametrize(
    "text",
    [
        "from .one import One\nprint('imported', end='')\n",
        "from .one import One\ntry:\n    from .two import Two\nexcept ImportError:\n    Two = None\n",
        "from .one import One\ndef function(): ...\n",
        "from .one import One as one\n",  # the import of the submodule sets this name
        "from .one import One\nfor __name in __all__:\n    registry.append(__name)\n",
        "from .one import One\nif TYPE_CHECKING:\n    x = 1\n",
        "import one\n",
    ],
)
def test_package_that_does_more_is_run_as_it_is(
    package: ImportPackage, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prologue = "registry = []\n__all__ = []\nfrom typing import TYPE_CHECKING\nimport sys\nsys.modules['one'] = sys\n"
    sdk = package({"__init__.py": prologue + text, "one.py": "class One: ...", "two.py": "class Two: ..."})
    sys.modules.pop("one")
    assert "__getattr__" not in vars(sdk)
    assert capsys.readouterr().out == ("imported" if "print" in text else "")


def test_error_of_a_submodule_is_raised_at_each_use(package: ImportPackage) -> None:
    init = "from .one import One\nfrom .two import Two\n"
    sdk = package({"__init__.py": init, "one.py": "1 / 0", "two.py": "Two = 2"})
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            _ = sdk.One
    assert sdk.Two == 2


def test_threads_get_the_same_object(package: ImportPackage) -> None:
    sdk = package(
        {
            "__init__.py": "from .one import One\nalias = One\n",
            "one.py": "import time\ntime.sleep(0.05)\nclass One: ...",
        }
    )
    found: list[object] = []
    start = threading.Barrier(8)

    def use(name: str) -> None:
        start.wait()
        found.append(getattr(sdk, name))

    threads = [threading.Thread(target=use, args=(name,)) for name in ("One", "alias") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [sdk.One] * 8


def test_every_name_of_the_sdk_is_the_same() -> None:
    """Each name of each of its packages, in an interpreter with lazy packages and in one without."""
    eager = _names_of_the_sdk("", {})
    names = {package: list(listed) for package, listed in eager.items()}
    lazy = _names_of_the_sdk("import mcp_server_claude.anthropic_api", names)
    assert len(eager) > 50
    assert lazy == eager


def test_unused_half_of_the_sdk_is_not_imported() -> None:
    code = (
        "import sys, mcp_server_claude.anthropic_api, anthropic\n"
        "client = anthropic.AsyncAnthropic(api_key='sk-ant-test-x')\n"
        "client.messages.batches, client.models, client.files\n"
        "assert 'anthropic.resources.beta' not in sys.modules\n"
        "assert len([name for name in sys.modules if name.startswith('anthropic')]) < 1500"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)


def _names_of_the_sdk(preparation: str, names: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    result = subprocess.run(
        [sys.executable, "-c", NAMES_OF_THE_SDK.format(preparation=preparation)],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    described: dict[str, dict[str, str]] = json.loads(result.stdout)
    return described
