"""Whether this user may make symbolic links: on Windows that needs the developer mode or a right."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest


def _can_link() -> bool:
    with tempfile.TemporaryDirectory() as directory:
        link = Path(directory) / "link"
        try:
            link.symlink_to("target")
        except OSError:
            return False
        return link.is_symlink()


CAN_LINK = sys.platform != "win32" or _can_link()
needs_links = pytest.mark.skipif(not CAN_LINK, reason="links need a right there")
