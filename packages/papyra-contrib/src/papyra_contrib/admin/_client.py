"""A connection to another system of this user, over its admin socket."""

from __future__ import annotations

import errno
import json
import os
import socket
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import anyio

from papyra_contrib.admin._protocol import MAX_ANSWER_BYTES, PROTOCOL_VERSION, read_object

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["AdminConnection", "NoAnswer", "ask_once"]


TRY_AGAIN_SECONDS = 0.05


class NoAnswer(Exception):
    """A system has ended, does not answer, or does not know the operation; the text says which."""


class AdminConnection:
    """A connection to an admin socket, over which one question after the other is asked."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)

    async def connect(self, path: Path | str) -> None:
        """Connect. While the queue of connections is full, try again after a pause.

        anyio does not: on asyncio it tries again without a pause, and on trio it returns a socket that is not
        connected.
        """
        while problem := self._socket.connect_ex(str(path)):
            if problem != errno.EAGAIN:
                raise OSError(problem, os.strerror(problem))
            await anyio.sleep(TRY_AGAIN_SECONDS)

    def send(self, op: str, **fields: object) -> None:
        """Send a question. There is room for it, because the one before was read."""
        self._socket.sendall(json.dumps({"id": 1, "op": op, **fields}).encode() + b"\n")

    async def read(self) -> dict[str, Any]:
        """Return the next line of the server."""
        line = bytearray()
        while not line.endswith(b"\n"):
            await anyio.wait_readable(self._socket)
            received = self._socket.recv(65536)
            if not received:
                raise NoAnswer("it has ended")
            line += received
            if len(line) > MAX_ANSWER_BYTES:
                raise NoAnswer("its answer is too long")
        return read_object(bytes(line))

    def end(self) -> None:
        """Let a reader know that there is nothing more."""
        with suppress(OSError):  # it was not connected, or the other side was faster
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection. Nobody may read from it meanwhile."""
        self._socket.close()


async def ask_once(path: Path, op: str, *, patience: float, **fields: object) -> tuple[dict[str, Any], Any]:
    """Return the greeting of the server and the result of an operation, or raise `NoAnswer`."""
    problem = "it is busy with other clients"
    try:
        with anyio.fail_after(patience), closing(AdminConnection()) as connection:
            await connection.connect(path)
            problem = f"no answer within {patience:g} s"
            greeting = await connection.read()
            if greeting.get("papyra_admin") != PROTOCOL_VERSION:
                raise NoAnswer(str(greeting.get("error", "it speaks another version of the protocol")))
            if op not in greeting.get("ops", ()):
                raise NoAnswer(f"its version, {greeting.get('version')}, has no operation {op!r}")
            connection.send(op, **fields)
            reply = await connection.read()
    except TimeoutError:
        raise NoAnswer(problem) from None
    except (BrokenPipeError, ConnectionResetError) as error:
        raise NoAnswer("it has ended") from error
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from error
    if not reply.get("ok"):
        raise NoAnswer(str(reply.get("error", "it gave no answer")))
    return greeting, reply.get("result")
