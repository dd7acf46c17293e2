"""A proxy on a Unix socket that can lose the server's answer to a commit."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path


class SwallowingProxy:
    """Forward everything; after `swallow_next`, deliver the next request that has ``word`` in it and cut the
    answer off.
    """

    def __init__(self, listen: Path, server: Path, word: bytes) -> None:
        self._server = str(server)
        self._word = word
        self._swallow = 0
        self.swallowed = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen))
        self._listener.listen(50)
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow_next(self, count: int = 1) -> None:
        self._swallow += count

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                upstream = socket.socket(socket.AF_UNIX)
                try:
                    upstream.connect(self._server)
                except OSError:  # the server is away
                    client.close()
                    upstream.close()
                    continue
                self._open += (client, upstream)
                cut = threading.Event()
                for source, target, is_request in ((client, upstream, True), (upstream, client, False)):
                    threading.Thread(
                        target=self._forward, args=(source, target, is_request, cut), daemon=True
                    ).start()

    def _forward(
        self, source: socket.socket, target: socket.socket, is_request: bool, cut: threading.Event
    ) -> None:
        with suppress(OSError):  # one side has left
            while data := source.recv(65536):
                if is_request and self._swallow and self._word in data:
                    self._swallow -= 1
                    cut.set()
                elif not is_request and cut.is_set():
                    self.swallowed += 1  # the server has answered, so it is done
                    break
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
