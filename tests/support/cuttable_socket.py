"""A Unix socket in front of a PostgreSQL server, which can be cut, or hold back what is sent, like a network."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SOCKET_NAME = ".s.PGSQL.5432"
HEAD_BYTES = 5
"""The type and the length of a message."""


class CuttableSocket:
    """Forwards connections to a server's socket while it is not cut. A URL names `directory` as its host."""

    def __init__(self, directory: Path, server_directory: str) -> None:
        self.directory = directory
        self._target = str(Path(server_directory) / SOCKET_NAME)
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._forwards = threading.Event()
        self._forwards.set()
        self._lost_statement: bytes | None = None
        self._losing_client: socket.socket | None = None
        self.lost_confirmations = 0
        """Number of transactions that the server has committed, and whose client lost its connection before it knew."""
        self.waits = 0
        """Number of times that a client has waited for an answer, since it ends what it sends with `Query` or `Sync`
        (https://www.postgresql.org/docs/current/protocol-message-formats.html)."""
        self.restore()

    def lose_confirmation_of(self, statement: bytes) -> None:
        """End the connection of the next client that sends this text, instead of the answer to its `commit`."""
        self._lost_statement = statement

    def hold(self) -> None:
        """Accept connections and bytes, and forward nothing, until `release`."""
        self._forwards.clear()

    def release(self) -> None:
        """Forward what was held back, and what comes."""
        self._forwards.set()

    def restore(self) -> None:
        """Accept connections again."""
        path = self.directory / SOCKET_NAME
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        if self._listener is not None:
            _end(self._listener)
            self._listener = None
        (self.directory / SOCKET_NAME).unlink(missing_ok=True)
        self.release()
        with self._lock:
            ended, self._open = self._open, []
        for each in ended:
            _end(each)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            with self._lock:
                self._open += [client, server]
            for source, target, inspect in (
                (client, server, partial(self._inspect_request, client)),
                (server, client, partial(self._inspect_answer, client)),
            ):
                threading.Thread(target=self._pump, args=(source, target, inspect), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, inspect: Callable[[bytes], bytes]) -> None:
        """Forward bytes. `inspect` gets those that have arrived, and returns those that begin an incomplete message."""
        rest = b""
        with suppress(OSError):
            while data := source.recv(65536):
                rest = inspect(rest + data)
                self._forwards.wait()
                target.sendall(data)
        _end(source)
        _end(target)

    def _inspect_request(self, client: socket.socket, data: bytes) -> bytes:
        if self._lost_statement is not None and self._lost_statement in data:
            self._lost_statement, self._losing_client = None, client
        return self._count_waits(data)

    def _inspect_answer(self, client: socket.socket, data: bytes) -> bytes:
        """Raise an error of the connection in place of the confirmation that is to be lost."""
        if self._losing_client is client and b"COMMIT\0" in data:
            self._losing_client = None
            self.lost_confirmations += 1
            raise ConnectionResetError
        return b""

    def _count_waits(self, data: bytes) -> bytes:
        """Count the messages after which the server has to answer."""
        while len(data) >= HEAD_BYTES:
            has_type = data[0] != 0  # the first message of a connection begins with its length
            length = int.from_bytes(data[has_type : has_type + 4]) + has_type
            if len(data) < length:
                break
            self.waits += data[:1] in {b"Q", b"S"}
            data = data[length:]
        return data


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
