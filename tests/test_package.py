"""What an installed package has with it: the pages, and the licence of everything in them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.process_deadline import IMPATIENT_PIP

ROOT = Path(__file__).parents[1]
STATIC = ROOT / "src" / "mcp_server_claude" / "web" / "static"


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_pages_and_every_licence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", str(ROOT), "--wheel-dir", str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | IMPATIENT_PIP)
    if built.returncode:
        pytest.skip(f"No wheel can be built here: {built.stderr[-200:]}")
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())

    pages = {path.relative_to(ROOT / "src").as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert any(name.endswith(".data/data/share/man/man1/mcp-server-claude.1") for name in held)
    licences = {path.name for path in (STATIC / "vendor").glob("*.LICENSE")} | {"LICENSE"}
    assert pages <= held
    assert {f"mcp_server_claude/web/templates/{name}.html" for name in ("chat", "signin", "usage")} <= held
    assert licences == {Path(name).name for name in held if ".dist-info/licenses/" in name}
