"""The wire between a store and its server, for tests that cut and stall it."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

__all__ = ["Wire"]

_CHUNK_BYTES = 65536


class Wire:
    """A proxy on the host ``127.0.0.1`` and a free ``port`` that leads to a server.

    ``server`` is its host and port, or the path of its Unix socket. A test can cut the connections at any
    message, and stall them. A message is the bytes that one read of a socket returns: mostly a request or an
    answer. Close it, or use it in a ``with`` block.
    """

    def __init__(self, server: tuple[str, int] | Path | str) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = "127.0.0.1"
        self.port: int = self._listener.getsockname()[1]
        self.messages = 0
        """How many messages have come, in both directions."""
        self.cuts = 0
        """How often `cut_at` has cut."""
        self._cut_at: int | None = None
        self._closed = False
        self._guard = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._threads = [_started(self._accept)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut everything, and take no more connections."""
        self._closed = True
        with suppress(OSError):  # closed before
            socket.create_connection((self.host, self.port)).close()  # wakes the thread that accepts
        self._threads[0].join()
        self._listener.close()
        self._flows.set()
        self.cut()
        for thread in self._threads:
            thread.join()

    def cut(self) -> None:
        """Cut every connection. New ones work at once."""
        with self._guard:
            for pair in self._pairs:
                _shut(*pair)

    @contextmanager
    def cut_at(self, message: int) -> Generator[None]:
        """Make a context in which message number ``message`` cuts every connection; 1 is the first one.

        Messages of all connections count. Half of that message arrives if it is a request, and nothing if it
        is an answer. It happens once.
        """
        with self._guard:
            self._cut_at = self.messages + message
        try:
            yield
        finally:
            with self._guard:
                self._cut_at = None

    @contextmanager
    def stall(self) -> Generator[None]:
        """Make a context in which connections are taken and nothing goes through; it arrives afterwards."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    # What follows runs in threads: one that accepts, and two for each connection.

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closed:
                client.close()
                return
            self._threads.append(_started(self._connect, client))

    def _connect(self, client: socket.socket) -> None:
        with client:
            try:
                server = _connected(self._server)
            except OSError:  # it is away, and so is this connection
                return
            with server:
                pair = (client, server)
                for connection in pair:
                    with suppress(OSError):  # a Unix socket does not wait
                        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._guard:
                    self._pairs.add(pair)
                    if self._closed:
                        _shut(*pair)
                answers = _started(self._forward, server, client, False)
                self._forward(client, server, True)
                answers.join()
                with self._guard:
                    self._pairs.discard(pair)

    def _forward(self, source: socket.socket, target: socket.socket, is_request: bool) -> None:
        with suppress(OSError):  # one side has left
            while data := source.recv(_CHUNK_BYTES):
                self._flows.wait()
                if self._is_cut():
                    if is_request:
                        target.sendall(data[: len(data) // 2])
                    self.cut()
                    break
                target.sendall(data)
        _shut(source, target)

    def _is_cut(self) -> bool:
        with self._guard:
            self.messages += 1
            if self.messages != self._cut_at:
                return False
            self._cut_at = None
            self.cuts += 1
            return True


def _started(function: Callable[..., object], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def _connected(server: tuple[str, int] | Path | str) -> socket.socket:
    if isinstance(server, tuple):
        return socket.create_connection(server)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(server))
    except OSError:
        connection.close()
        raise
    return connection


def _shut(*sockets: socket.socket) -> None:
    for connection in sockets:
        with suppress(OSError):  # the other side was faster
            connection.shutdown(socket.SHUT_RDWR)
