"""axe-core, Deque's rules on accessibility: neither shipped nor installed, but fetched when a test first needs it."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.process_deadline import MAX_COMMAND_S

VERSION = "4.14.1"
SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
RUN_AXE = """
async () => (await axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }))
  .violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(node => node.html).join(' | ')}`)
"""
"""What axe finds, one line for each rule that is broken."""


def load_axe(folder: Path) -> str:
    """The script, from `folder` or else the npm registry, into `folder`."""
    kept = folder / f"axe-{VERSION}.min.js"
    if not kept.exists():
        with TemporaryDirectory(dir=folder) as aside:  # another worker may be doing the same
            written = Path(aside) / kept.name
            written.write_bytes(_download_axe(Path(aside)))
            written.replace(kept)
    return kept.read_text(encoding="utf-8")


def _download_axe(folder: Path) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("There is no npm here to fetch axe-core with.")
    command = [npm, "pack", f"axe-core@{VERSION}", "--ignore-scripts", "--pack-destination", str(folder)]
    try:
        packed = subprocess.run(command, check=False, capture_output=True, text=True, timeout=MAX_COMMAND_S)
    except subprocess.TimeoutExpired:
        pytest.skip("axe-core could not be fetched: the npm registry does not answer.")
    if packed.returncode:
        pytest.skip(f"axe-core could not be fetched: {packed.stderr[-200:]}")
    with tarfile.open(folder / f"axe-core-{VERSION}.tgz") as archive:
        inside = archive.extractfile("package/axe.min.js") or io.BytesIO()
        script = inside.read()
    assert hashlib.sha256(script).hexdigest() == SHA256
    return script
