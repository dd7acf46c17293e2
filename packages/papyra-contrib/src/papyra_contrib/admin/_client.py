"""One question to another system of this user, over its admin socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from papyra_contrib.admin._protocol import MAX_ANSWER_BYTES, PROTOCOL_VERSION, read_object

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NoAnswer", "ask_once"]


class NoAnswer(Exception):
    """A system that has ended, does not answer, or does not know the question; the text says which."""


async def ask_once(path: Path, op: str, *, patience: float, **fields: object) -> tuple[dict[str, Any], Any]:
    """Return the greeting of the server and the result of an operation, or raise `NoAnswer`."""
    try:
        with anyio.fail_after(patience):
            async with await anyio.connect_unix(path) as stream:
                lines = BufferedByteReceiveStream(stream)
                greeting = await _read(lines)
                if greeting.get("papyra_admin") != PROTOCOL_VERSION:
                    raise NoAnswer(
                        str(greeting.get("error", "this is not an admin socket that is understood"))
                    )
                if op not in greeting.get("ops", ()):
                    raise NoAnswer(f"its version, {greeting.get('version')}, has no operation {op!r}")
                await stream.send(json.dumps({"id": 1, "op": op, **fields}).encode() + b"\n")
                reply = await _read(lines)
    except TimeoutError:
        raise NoAnswer(f"no answer within {patience:g} s") from None
    except (OSError, ValueError, anyio.EndOfStream, anyio.IncompleteRead, anyio.DelimiterNotFound) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from error
    except anyio.BrokenResourceError as error:
        raise NoAnswer("it has ended") from error
    if not reply.get("ok"):
        raise NoAnswer(str(reply.get("error", "it gave no answer")))
    return greeting, reply.get("result")


async def _read(lines: BufferedByteReceiveStream) -> dict[str, Any]:
    return read_object(await lines.receive_until(b"\n", MAX_ANSWER_BYTES))
