"""A blocking client of the admin socket: JSON lines over a Unix socket, with the standard library alone."""

from __future__ import annotations

import json
import os
import re
import socket
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from papyra_cli._errors import Failure

__all__ = ["LiveSystem", "is_open", "live_sockets"]

TIMEOUT_SECONDS = 10.0
TRY_AGAIN_SECONDS = 0.05
MAX_ANSWER_BYTES = 16 * 1024 * 1024
_SOCKET = re.compile(r"(\d+)-(.+)\.sock")


def live_sockets() -> dict[Path, tuple[int, str]]:
    """Return the sockets of this user's running processes, with the process and the system of each."""
    sockets: dict[Path, tuple[int, str]] = {}
    try:
        paths = sorted(_folder().iterdir())
    except OSError:  # no system of this user ever opened a socket, or it is not our folder to read
        return sockets
    for path in paths:
        match = _SOCKET.fullmatch(path.name)
        if match is not None and _is_running(int(match[1])):
            sockets[path] = int(match[1]), match[2]
    return sockets


def _folder() -> Path:
    if own := os.environ.get("PAPYRA_RUNTIME_DIR"):
        return Path(own)
    if user := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(user, "papyra")
    return Path(tempfile.gettempdir(), f"papyra-{os.getuid()}")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def is_open(path: Path) -> bool:
    """Return whether a process listens; False for a socket that a killed process left."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(TIMEOUT_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # it is busy, for example: LiveSystem says what it is
    return True


class LiveSystem:
    """A connection to one running system; it raises `Failure` when that has gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_SECONDS)
        try:
            self._connect()
        except OSError as error:
            self._socket.close()
            raise self._failure(error) from error
        self._lines = self._socket.makefile("rb")
        try:
            self.greeting = self._read()
        except Failure:
            self.close()
            raise
        if "papyra_admin" not in self.greeting:
            self.close()
            raise Failure(f"{path}: {self.greeting.get('error', 'this is not an admin socket of Papyra')}")

    def _connect(self) -> None:
        """Connect. If too many clients wait to be accepted, try again, for as long as an answer may take."""
        give_up = time.monotonic() + TIMEOUT_SECONDS
        while True:
            try:
                return self._socket.connect(str(self.path))
            except BlockingIOError:  # the time-out does not count here
                if time.monotonic() >= give_up:
                    raise
            time.sleep(TRY_AGAIN_SECONDS)

    def ask(self, op: str, **fields: object) -> dict[str, Any]:
        """Return the result of an operation."""
        try:
            self._socket.sendall(json.dumps({"id": 1, "op": op, **fields}).encode() + b"\n")
        except OSError as error:
            raise self._failure(error) from error
        reply = self._read()
        if not reply.get("ok"):
            raise Failure(str(reply.get("error", "the system gave no answer")))
        return cast("dict[str, Any]", reply["result"])

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline(MAX_ANSWER_BYTES)
        except OSError as error:
            raise self._failure(error) from error
        if not line:
            raise Failure(f"{self.path}: the system has ended")
        try:
            answer: object = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise Failure(f"{self.path}: the answer is not a JSON object. Is this an admin socket of Papyra?")
        return cast("dict[str, Any]", answer)

    def _failure(self, error: OSError) -> Failure:
        if isinstance(error, BlockingIOError):  # too many wait to be accepted
            return Failure(f"{self.path}: the system is busy with other clients; try again")
        if isinstance(error, TimeoutError):
            return Failure(
                f"{self.path}: no answer within {TIMEOUT_SECONDS:g} s; the system hangs, or is busy"
            )
        return Failure(f"{self.path}: {error.strerror or error}. The system has probably ended.")

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self._socket.close()
