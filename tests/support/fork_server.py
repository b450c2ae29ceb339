"""Processes of the server that begin as forks of one interpreter, in which all modules are imported already.

Starting Python and importing the server takes a second of CPU, and hundreds of tests start it. A fork takes a few
milliseconds and is a process like any other: own descriptors, environment, directory and signals. A test starts a small
launcher, which hands its descriptors over, passes signals on and ends as the fork ends. With `TEST_FORK=0` (so
`scripts/test --all`) tests start real processes instead; tests of the start itself, and those that look at a process
from outside, always do.

    python fork_server.py SOCKET                           the server, on a Unix socket, until its stdin ends
    python -I -S fork_server.py SOCKET launch ARGUMENT…    a launcher of `python -m mcp_server_claude ARGUMENT…`
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys

FORWARDED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HEADER_BYTES = 8


# --------------------------------------------------------------------- the launcher, which imports nothing heavy


def launch(path: str, arguments: list[str]) -> int:
    """Have the server fork; return when the fork has ended, with its exit code."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        umask = os.umask(0)
        order = {"arguments": arguments, "environment": dict(os.environ), "directory": os.getcwd(), "umask": umask}  # noqa: PTH109
        body = json.dumps(order).encode()
        descriptors = array.array("i", (0, 1, 2))
        pending: list[int] = []
        child = 0

        def forward(number: int, _frame: object) -> None:
            if child:
                os.kill(child, number)
            else:
                pending.append(number)

        for number in FORWARDED_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, forward)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
        connection.sendmsg([len(body).to_bytes(HEADER_BYTES, "big")], rights)
        connection.sendall(body)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # a pipe must end when the fork closes it
            os.dup2(nothing, descriptor)
        child = int.from_bytes(_receive(connection, HEADER_BYTES), "big")
        for number in pending:
            os.kill(child, number)
        status = int.from_bytes(_receive(connection, HEADER_BYTES), "big")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        signal.signal(number, signal.SIG_DFL) if number not in {signal.SIGKILL, signal.SIGSTOP} else None
        os.kill(os.getpid(), number)
    return os.waitstatus_to_exitcode(status)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError("the fork server is gone")
        data += piece
    return data


# --------------------------------------------------------------------- the server


def serve(path: str) -> None:
    """Fork for every launcher that connects, until stdin ends; then kill what is left."""
    gc.disable()
    _import_everything()
    gc.enable()
    gc.collect()
    gc.freeze()  # forks share these objects
    children: dict[int, socket.socket] = {}
    wakeup, wakeup_end = socket.socketpair()
    for end in (wakeup, wakeup_end):
        end.setblocking(False)  # noqa: FBT003 - the socket module's signature
    signal.set_wakeup_fd(wakeup_end.fileno())
    signal.signal(signal.SIGCHLD, _on_child_exit)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with selectors.DefaultSelector() as selector, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            for key, _ in selector.select():
                if key.fileobj == 0:
                    for child in children:
                        os.kill(child, signal.SIGKILL)
                    return
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    child = _fork(connection, [listener, wakeup, wakeup_end, *children.values()], selector)
                    children[child] = connection
                    selector.register(connection, selectors.EVENT_READ)
                    connection.sendall(child.to_bytes(HEADER_BYTES, "big"))
                elif key.fileobj is wakeup:
                    wakeup.recv(1 << 16)
                    _reap(children, selector)
                else:  # a launcher never says more: it was killed
                    selector.unregister(key.fileobj)
                    for child, connection in children.items():
                        if connection is key.fileobj:
                            os.kill(child, signal.SIGKILL)


def _fork(connection: socket.socket, foreign: list[socket.socket], selector: selectors.BaseSelector) -> int:
    header, ancillary, _, _ = connection.recvmsg(HEADER_BYTES, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    descriptors = array.array("i")
    descriptors.frombytes(ancillary[0][2])
    order = json.loads(_receive(connection, int.from_bytes(header, "big")))
    child = os.fork()
    if child:
        for descriptor in descriptors:
            os.close(descriptor)
        return child
    try:
        selector.close()
        for each in (connection, *foreign):
            each.close()
        _become(order, list(descriptors))
        code = _run(order["arguments"])
    except BaseException:  # noqa: BLE001 - nothing of the server's loop may go on in a fork
        import traceback

        traceback.print_exc()
        code = 70
    os._exit(code)


def _become(order: dict[str, object], descriptors: list[int]) -> None:
    """Take the launcher's descriptors, environment, directory and umask; what the server set is set back."""
    import tempfile

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order["environment"])  # pyright: ignore[reportCallIssue,reportArgumentType,reportUnknownMemberType]
    os.chdir(str(order["directory"]))
    os.umask(int(str(order["umask"])))
    tempfile.tempdir = None  # it is remembered
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _run(arguments: list[str]) -> int:
    """Run the command as `python -m mcp_server_claude` does; return its exit code."""
    import atexit

    from mcp_server_claude.__main__ import main

    sys.argv = ["mcp-server-claude", *arguments]
    code: object = 0
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = 130
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    try:
        import threading

        # What the interpreter does before it ends.
        threading._shutdown()  # pyright: ignore[reportPrivateUsage,reportAttributeAccessIssue,reportUnknownMemberType]
        atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        return 120  # as Python does
    return code if isinstance(code, int) else 0


def _on_child_exit(_number: int, _frame: object) -> None:
    """Do nothing: the signal wakes `serve` by its descriptor."""


def _reap(children: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    while children:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        connection = children.pop(child)
        if connection in {key.fileobj for key in selector.get_map().values()}:
            selector.unregister(connection)
        with contextlib.suppress(OSError):  # its launcher was killed
            connection.sendall(status.to_bytes(HEADER_BYTES, "big"))
        connection.close()


def _import_everything() -> None:
    """Import what a process of the server may import, without starting a thread."""
    import importlib
    import pkgutil

    import mcp_server_claude

    for module in pkgutil.walk_packages(mcp_server_claude.__path__, "mcp_server_claude."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in (
        "anthropic",
        "fastapi",
        "genai_prices",
        "mcp.server.stdio",
        "opentelemetry.exporter.otlp.proto.http.metric_exporter",
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        "rich.console",
        "uvicorn",
    ):
        importlib.import_module(name)


if __name__ == "__main__":
    if sys.argv[2:3] == ["launch"]:
        sys.exit(launch(sys.argv[1], sys.argv[3:]))
    serve(sys.argv[1])
