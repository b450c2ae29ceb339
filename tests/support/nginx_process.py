"""nginx as a process of its own, on loopback and without TLS."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
TEMPORARY_FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextmanager
def nginx_process(home: Path, http_block: Callable[[int], str]) -> Generator[str]:
    """nginx with what `http_block` returns for the port that it has to listen on; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    home.mkdir()
    folders = " ".join(f"{name}_temp_path {home}/{name};" for name in TEMPORARY_FOLDERS)
    (home / "nginx.conf").write_text(
        f"daemon off; pid {home}/pid; error_log {home}/error.log; events {{}}\n"
        f"http {{ access_log off; {folders}\n{http_block(port)}\n}}\n"
    )
    assert NGINX is not None
    running = subprocess.Popen([NGINX, "-p", str(home), "-c", "nginx.conf", "-e", f"{home}/error.log"])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(timeout=20)
