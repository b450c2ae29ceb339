"""Other people's programs in the versions of tests/interop/versions.toml, installed below .interop/ when needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

if sys.platform == "win32":
    import msvcrt

    def _wait_for_lock(descriptor: int) -> None:
        while True:
            with suppress(OSError):  # after ten seconds
                msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
                return
else:
    import fcntl

    def _wait_for_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)


ROOT = Path(__file__).parents[3]
VERSIONS = ROOT / "tests" / "interop" / "versions.toml"
FOLDER = ROOT / ".interop"
INSTALL_TIMEOUT_S = 300


class NotInstallableError(Exception):
    """A party that cannot be had here; the message says why."""


def pinned_packages(registry: str, party: str) -> list[str]:
    """The packages of a party, each with its version, as the registry's client spells them."""
    pins: list[str] = tomllib.loads(VERSIONS.read_text(encoding="utf-8"))[registry][party]
    return pins


def unavailable_parties() -> dict[str, str]:
    """The parties that no registry has, each with the reason."""
    reasons: dict[str, str] = tomllib.loads(VERSIONS.read_text(encoding="utf-8"))["unavailable"]
    return reasons


@cache
def npm_folder(party: str) -> Path:
    """The folder whose `node_modules` holds a party from npm.

    Raises:
        NotInstallableError: npm is missing, or the packages cannot be had.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise NotInstallableError("npm is not installed")
    packages = pinned_packages("npm", party)
    folder = FOLDER / "npm" / party
    with _installation(folder, packages) as is_missing:
        if is_missing:
            (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
            _run_installer([npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), *packages])
    return folder


def node_executable() -> Path:
    """Node 22 from npm, which newer clients need and the system may not have."""
    return npm_folder("node") / "node_modules" / "node" / "bin" / "node"


@cache
def python_environment(party: str) -> Path:
    """The Python interpreter of an environment that holds a party from PyPI, and nothing of ours.

    Raises:
        NotInstallableError: The packages cannot be had.
    """
    packages = pinned_packages("python", party)
    folder = FOLDER / "python" / party
    python = folder / "bin" / "python"
    if party == "uv":
        create = [sys.executable, "-m", "venv", "--clear", str(folder)]
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    else:
        uv = str(python_environment("uv").with_name("uv"))
        create = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)]
        install = [uv, "pip", "install", "--quiet", "--python", str(python)]
    with _installation(folder, packages) as is_missing:
        if is_missing:
            _run_installer(create)
            _run_installer([*install, *packages])
    return python


@contextmanager
def _installation(folder: Path, packages: list[str]) -> Generator[bool]:
    """Let one process at a time install into a folder; whether these packages are still missing there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    stamp = folder / "installed.txt"
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        _wait_for_lock(lock.fileno())
        if stamp.exists() and stamp.read_text(encoding="utf-8").split() == packages:
            yield False
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield True
        stamp.write_text("\n".join(packages), encoding="utf-8")


def _run_installer(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as error:
        lines = f"{error.stdout}\n{error.stderr}".strip().splitlines()
        raise NotInstallableError(lines[-1] if lines else f"{command[0]} exits with {error.returncode}") from None
    except subprocess.TimeoutExpired:
        raise NotInstallableError(f"the installation takes more than {INSTALL_TIMEOUT_S} s") from None
