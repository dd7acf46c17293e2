"""One question to another system of this user, over its admin socket."""

from __future__ import annotations

import errno
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import anyio

from papyra_contrib.admin._protocol import MAX_ANSWER_BYTES, PROTOCOL_VERSION, read_object

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NoAnswer", "ask_once"]


TRY_AGAIN_SECONDS = 0.05


class NoAnswer(Exception):
    """A system that has ended, does not answer, or does not know the question; the text says which."""


async def ask_once(path: Path, op: str, *, patience: float, **fields: object) -> tuple[dict[str, Any], Any]:
    """Return the greeting of the server and the result of an operation, or raise `NoAnswer`."""
    problem = "it is busy with other clients"
    try:
        with anyio.fail_after(patience), socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            await _connect(connection, path)
            problem = f"no answer within {patience:g} s"
            greeting = await _read(connection)
            if greeting.get("papyra_admin") != PROTOCOL_VERSION:
                raise NoAnswer(str(greeting.get("error", "this is not an admin socket that is understood")))
            if op not in greeting.get("ops", ()):
                raise NoAnswer(f"its version, {greeting.get('version')}, has no operation {op!r}")
            connection.sendall(
                json.dumps({"id": 1, "op": op, **fields}).encode() + b"\n"
            )  # there is room for it
            reply = await _read(connection)
    except TimeoutError:
        raise NoAnswer(problem) from None
    except (BrokenPipeError, ConnectionResetError) as error:
        raise NoAnswer("it has ended") from error
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from error
    if not reply.get("ok"):
        raise NoAnswer(str(reply.get("error", "it gave no answer")))
    return greeting, reply.get("result")


async def _connect(connection: socket.socket, path: Path) -> None:
    """Connect. While too many wait to be accepted, try again; anyio does so without a pause."""
    while problem := connection.connect_ex(str(path)):
        if problem != errno.EAGAIN:
            raise OSError(problem, os.strerror(problem))
        await anyio.sleep(TRY_AGAIN_SECONDS)


async def _read(connection: socket.socket) -> dict[str, Any]:
    """Return the one line that the server has to say now."""
    line = bytearray()
    while not line.endswith(b"\n"):
        await anyio.wait_readable(connection)
        received = connection.recv(65536)
        if not received:
            raise NoAnswer("it has ended")
        line += received
        if len(line) > MAX_ANSWER_BYTES:
            raise NoAnswer("its answer is too long")
    return read_object(bytes(line))
