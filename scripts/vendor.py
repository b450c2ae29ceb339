#!/usr/bin/env python3
"""Fetch the files of others that the pages are made with, or with `--check` prove that they are those.

Reads `web/static/vendor/vendor.toml`; writes the files and `vendor.lock`: the integrity of each npm tarball as the
registry states it, and the SHA-256 of each file as we ship it. Nothing of a package is ever run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "src" / "mcp_server_claude" / "web" / "static" / "vendor"
LIST, LOCK = FOLDER / "vendor.toml", FOLDER / "vendor.lock"
SOURCE_MAP = re.compile(rb"\n?//# sourceMappingURL=\S+\s*$")


@dataclass(frozen=True)
class VendoredPackage:
    """A package of `vendor.toml`; `files` are the names in it and here."""

    name: str
    version: str
    licence: str
    files: dict[str, str]

    def __str__(self) -> str:
        """As npm names it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class VendoredFile:
    """A file as we ship it."""

    name: str
    package: str
    source: str
    sha256: str


def main() -> int:
    """Fetch or check all of it."""
    wanted = list(read_package_list())
    if "--check" in sys.argv[1:]:
        told = list(find_mismatches(wanted))
        for fault in told:
            print(f"vendored files: {fault}", file=sys.stderr)
        return 1 if told else 0
    fetched = [fetch_package(package) for package in wanted]
    lock = {
        "packages": {str(package): integrity for package, (integrity, _) in zip(wanted, fetched, strict=True)},
        "files": [asdict(file) for _, files in fetched for file in files],
    }
    LOCK.write_text(json.dumps(lock, indent=1) + "\n", encoding="utf-8")
    return 0


def read_package_list() -> Iterator[VendoredPackage]:
    """What `vendor.toml` lists."""
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))
    for each in cast("list[dict[str, Any]]", listed["package"]):
        yield VendoredPackage(each["name"], each["version"], each["licence"], each["files"])


def fetch_package(package: VendoredPackage) -> tuple[str, list[VendoredFile]]:
    """Get a package's files; its integrity and what became of them."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", str(package), "--json", "--ignore-scripts", "--pack-destination", folder]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - ours
        integrity = cast("list[dict[str, str]]", json.loads(told))[0]["integrity"]
        (path,) = Path(folder).glob("*.tgz")
        if _integrity(path.read_bytes(), integrity.partition("-")[0]) != integrity:
            sys.exit(f"{package}: the tarball is not the one that the registry describes")
        with tarfile.open(path) as archive:
            return integrity, [_extract_file(archive, package, *names) for names in package.files.items()]


def find_mismatches(wanted: list[VendoredPackage]) -> Iterator[str]:
    """What does not hold of the files that are here."""
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["license"]
    for licence in sorted({package.licence for package in wanted} - set(stated.split(" AND "))):
        yield f"pyproject.toml does not state {licence} in license"
    lock = json.loads(LOCK.read_text(encoding="utf-8"))
    if list(lock["packages"]) != [str(package) for package in wanted]:
        yield "vendor.toml and vendor.lock name different packages"
    files = [VendoredFile(**each) for each in lock["files"]]
    if {file.name for file in files} != {name for package in wanted for name in package.files.values()}:
        yield "vendor.toml and vendor.lock name different files"
    for file in files:
        path = FOLDER / file.name
        if not path.exists() or _sha256(path.read_bytes()) != file.sha256:
            yield f"{file.name} is not the file of {file.package}"
    known = {file.name for file in files} | {LIST.name, LOCK.name}
    for path in sorted(FOLDER.iterdir()):
        if path.name not in known:
            yield f"nobody vendored {path.name}"


def _extract_file(archive: tarfile.TarFile, package: VendoredPackage, source: str, name: str) -> VendoredFile:
    inside = archive.extractfile(f"package/{source}")
    if inside is None:
        sys.exit(f"{package} has no file {source}")
    data = inside.read()
    if name.endswith((".js", ".css")):
        data = SOURCE_MAP.sub(b"\n", data)  # we do not ship the map that it points to
    (FOLDER / name).write_bytes(data)
    return VendoredFile(name, str(package), source, _sha256(data))


def _integrity(data: bytes, algorithm: str) -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
