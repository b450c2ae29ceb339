"""A directory that may be read, one beside it that may not, and everything between them that a caller could try."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from mcp_server_claude.anthropic_api.models.model_capabilities import ClaudeModel
from mcp_server_claude.files import FilePolicy, build_attachments, read_file
from support.symbolic_links import CAN_LINK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mcp_server_claude.call_types import Block
    from mcp_server_claude.files import Attachments

CANARY = "c4n4ry-0utside"
INSIDE_TEXT = "from within"
HANG_TIMEOUT_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True)
class FileTree:
    root: Path
    outside: Path
    rules: FilePolicy = field(default_factory=lambda: FilePolicy(roots=()))

    def attach(self, *names: str, images: bool = True, pdf: bool = True, **rules: object) -> Attachments:
        """The result of these names; never later than the guard."""
        chosen = replace(self.rules, **rules)  # type: ignore[arg-type]
        return run_with_timeout(lambda: build_attachments(names, chosen, images=images, pdf=pdf, model="claude-test-1"))

    def attached_texts(self, *names: str) -> list[str]:
        return block_texts(self.attach(*names).blocks)


def run_with_timeout(work: Callable[[], T]) -> T:
    """What `work` returns or raises; a failure when it hangs."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(HANG_TIMEOUT_S)
    assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]
    return results[0]


def block_texts(blocks: Sequence[Block]) -> list[str]:
    return [str(block["text"]) for block in blocks if block["type"] == "text"]


def blocks_json(blocks: Sequence[Block]) -> str:
    return json.dumps(blocks)


def build_file_tree(base: Path) -> FileTree:
    """`base/root` and `base/outside`, with links where they can be made, pipes, sockets and secrets."""
    root, outside = base / "root", base / "outside"
    for directory in (root / "src", root / ".git", root / ".ssh", root / "keys", root / "empty", outside):
        directory.mkdir(parents=True)
    (base / "root-evil").mkdir()
    for path in (outside / "canary.txt", outside / "a.py", base / "root-evil/canary.txt", base / "canary.txt"):
        path.write_text(CANARY)
    (root / "a.txt").write_text(f"a {INSIDE_TEXT}\n", newline="\n")
    (root / "src/a.py").write_text(f"# {INSIDE_TEXT}\n", newline="\n")
    (root / "src/b.py").write_text(f"b = '{INSIDE_TEXT}'\n", newline="\n")
    for secret in (".env", ".git/config", ".ssh/config", "keys/server.pem", "id_rsa", "credentials.json"):
        (root / secret).write_text(CANARY)
    (root / "nothing.txt").write_bytes(b"")
    (root / "blank.txt").write_bytes(b" \n\t\n")
    (root / "program").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(64))
    (root / "noise").write_bytes(bytes(range(256)) * 4)
    links = {
        "in": "src/a.py",
        "in-dir": "src",
        "in-absolute": str(root / "a.txt"),
        "in-around": "src/../../root/a.txt",
        "out": str(outside / "canary.txt"),
        "out-relative": "../outside/canary.txt",
        "out-dir": str(outside),
        "out-chain": "out-relative",
        "out-evil": "../root-evil/canary.txt",
        "up": "..",
        "whole": "/",
        "loop": "loop",
        "loop-a": "loop-b",
        "loop-b": "loop-a",
        "dangling": "no/where",
        "notes.txt": ".env",
        "to-environ": "/proc/self/environ",
        "to-zero": "/dev/zero",
        "to-pipe": "pipe",
        "link-0": "a.txt",
    } | {f"link-{n}": f"link-{n - 1}" for n in range(1, 60)}
    for name, target in links.items() if CAN_LINK else ():
        (root / name).symlink_to(target)
    if sys.platform != "win32":  # where Python has neither
        os.mkfifo(root / "pipe")
        _socket(root / "socket")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        try:
            os.mknod(root / "device", 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
        except PermissionError:
            (root / "device").symlink_to("/dev/zero")
    elif CAN_LINK:
        (root / "device").symlink_to("/dev/zero")
    return FileTree(root, outside, FilePolicy(roots=(root,)))


def build_empty_tree(base: Path) -> FileTree:
    """Only `base/root`, empty, and `base/outside` with what must not be seen."""
    root, outside = base / "root", base / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "canary.txt").write_text(CANARY)
    return FileTree(root, outside, FilePolicy(roots=(root,)))


def _socket(path: Path) -> None:
    """Bound by a short relative name: a socket's path has at most 107 bytes."""
    before = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.fchdir(before)
        os.close(before)


def png(width: int = 3, height: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg(width: int = 3, height: int = 2) -> bytes:
    app = b"\xff\xe0\x00\x10JFIF\0" + bytes(9)
    frame = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + bytes(10)
    return b"\xff\xd8" + app + frame + b"\xff\xd9"


def gif(width: int = 3, height: int = 2) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(3) + b";"


def webp(width: int = 3, height: int = 2) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def pdf(pages: int = 2) -> bytes:
    return b"%PDF-1.7\n" + b"<< /Type /Page >>\n" * pages + b"<< /Type /Pages >>\n%%EOF\n"


def read_tool_text(name: str, rules: FilePolicy) -> str:
    """What the delegate's own `read` says of a file, whatever it is."""
    return str(read_file(name, rules, model=ClaudeModel(id="claude-test")))
