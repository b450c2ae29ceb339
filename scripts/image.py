#!/usr/bin/env python3
"""Do what the Dockerfile says in a directory, for machines that cannot build images.

    scripts/image.py DIR            the steps of both stages; /src, /opt/venv and /data become DIR/src, …
    scripts/image.py DIR --serve    then start it as the image would, without rights where this runs as root, and end it
                                 once its health check has passed

Reads the Dockerfile itself, so that what is tried here is what an image would be made of.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
NOBODY_UID = 65534
IMAGE_PATHS = ("/src", "/opt/venv", "/data")


class DockerfileRunner:
    """The Dockerfile's instructions, carried out one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workdir = root
        self.env: dict[str, str] = {}
        self.health: list[str] = []
        self.entry: list[str] = []
        self.command: list[str] = []

    def run_instruction(self, word: str, rest: str) -> None:
        """Carry out one instruction."""
        match word:
            case "WORKDIR":
                self.workdir = Path(self.map_paths(rest))
                self.workdir.mkdir(parents=True, exist_ok=True)
            case "COPY" if rest.startswith("--from="):
                pass  # both stages share the directory
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    copy_into_image(REPOSITORY / source, self.workdir / target)
            case "RUN" if rest.startswith("useradd"):
                Path(self.map_paths("/data")).mkdir(mode=0o700, exist_ok=True)
            case "RUN":
                print(f"+ {rest}", flush=True)
                subprocess.run(shlex.split(self.python_command(rest)), check=True, cwd=self.workdir)  # noqa: S603 - our own file
            case "ENV":
                for pair in shlex.split(rest):
                    name, _, value = pair.partition("=")
                    self.env[name] = self.map_paths(value.replace("$PATH", os.environ["PATH"]))
            case "HEALTHCHECK":
                self.health = json.loads(rest[rest.index("CMD") + 3 :])
            case "ENTRYPOINT":
                self.entry = json.loads(rest)
            case "CMD":
                self.command = json.loads(rest)
            case _:
                print(f"- {word} {rest}", flush=True)

    def python_command(self, line: str) -> str:
        """A RUN line with this machine's paths and Python."""
        return re.sub(r"^python ", f"{shlex.quote(world_executable_python())} ", self.map_paths(line))

    def map_paths(self, text: str) -> str:
        """A text with the image's places below our directory."""
        for place in IMAGE_PATHS:
            text = re.sub(rf"(?<![\w/]){re.escape(place)}(?![\w])", f"{self.root}{place}", text)
        return text

    def serve(self) -> int:
        """Start it on loopback, wait for its health check, end it; the exit code."""
        environment = self.env | {"HOME": self.map_paths("/data"), "MCP_CLAUDE_API_KEY": "sk-ant-not-a-key"}
        nobody = NOBODY_UID if os.geteuid() == 0 else None
        if nobody:
            os.chown(self.map_paths("/data"), nobody, nobody)
        command = [each.replace("0.0.0.0", "127.0.0.1") for each in (*self.entry, *self.command)]  # noqa: S104
        print(f"+ {shlex.join(command)}", flush=True)
        entry = shutil.which(command[0], path=environment["PATH"]) or command[0]
        server = subprocess.Popen(  # noqa: S603 - our own file
            [entry, *command[1:]],
            env=environment,
            cwd=self.root,
            user=nobody,
            group=nobody,
            extra_groups=[] if nobody else None,
        )
        try:
            for _ in range(60):
                check = subprocess.run(self.health, env=environment, check=False, stderr=subprocess.DEVNULL)  # noqa: S603
                if check.returncode == 0:
                    print("healthy", flush=True)
                    break
                if server.poll() is not None:
                    return server.returncode or 1
                time.sleep(0.5)
            else:
                print("never became healthy", file=sys.stderr)
                return 1
        finally:
            server.send_signal(signal.SIGTERM)
            ended = server.wait(timeout=60)
        print(f"ended with {ended}", flush=True)
        return 0 if ended == 0 else 1


def world_executable_python() -> str:
    """A Python that a user without rights may run, which one below /root is not; else this one."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        path = Path(candidate).resolve()
        if path.exists() and all(each.stat().st_mode & 0o001 for each in (path, *path.parents)):
            return candidate
    return sys.executable


def copy_into_image(source: Path, target: Path) -> None:
    """Copy as COPY does: a directory's content, a file by its name."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target / source.name if target.is_dir() else target)


def parse_dockerfile(text: str) -> list[tuple[str, str]]:
    """The Dockerfile's instructions without comments."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def main() -> int:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--serve", action="store_true")
    arguments = parser.parse_args()
    root = arguments.directory.resolve()
    root.mkdir(parents=True, exist_ok=True)
    stages = DockerfileRunner(root)
    for word, rest in parse_dockerfile((REPOSITORY / "Dockerfile").read_text()):
        stages.run_instruction(word, rest)
    return stages.serve() if arguments.serve else 0


if __name__ == "__main__":
    sys.exit(main())
