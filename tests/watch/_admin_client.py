"""A client of the admin socket, blocking and without mercy: it runs in a thread of the test."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any


class Client:
    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.file = self.socket.makefile("rb")

    def read(self) -> dict[str, Any]:
        """Return the next line, and nothing once the server has closed the connection."""
        try:
            line = self.file.readline()
        except ConnectionResetError:  # closed while a part of the request was not read yet
            return {}
        return json.loads(line) if line else {}

    def send(self, data: bytes) -> None:
        with suppress(BrokenPipeError):  # the server has closed the connection, as `read` says
            self.socket.sendall(data)

    def ask(self, op: str, **fields: object) -> dict[str, Any]:
        self.send(json.dumps({"id": 1, "op": op, **fields}).encode() + b"\n")
        return self.read()

    def close(self) -> None:
        self.file.close()
        self.socket.close()
