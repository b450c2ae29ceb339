"""Pack the bundle for Claude Desktop: the manifest, the package and what `uv run` needs, as one .mcpb file (a ZIP)."""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

ROOT = Path(__file__).parent.parent
FILES = ("pyproject.toml", "README.md", "LICENSE")
FIXED_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time of a ZIP; so equal content gives equal files."""


def pack_bundle(target: Path) -> None:
    """Write the bundle."""
    entries = {"manifest.json": ROOT / "bundles" / "claude-desktop" / "manifest.json"}
    entries |= {name: ROOT / name for name in FILES}
    package = ROOT / "src" / "mcp_server_claude"
    sources = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    entries |= {path.relative_to(ROOT).as_posix(): path for path in sources}
    with ZipFile(target, "w", ZIP_DEFLATED) as bundle:
        for name in sorted(entries):
            info = ZipInfo(name, FIXED_TIME)
            info.compress_type = ZIP_DEFLATED
            bundle.writestr(info, entries[name].read_bytes())


if __name__ == "__main__":
    pack_bundle(Path(sys.argv[1]) / "mcp-server-claude.mcpb")
