"""The server: an instrument whose task answers on a Unix socket."""

from __future__ import annotations

import logging
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream

from papyra import __version__
from papyra.instruments import Instrument
from papyra_contrib.admin import _protocol as protocol
from papyra_contrib.admin._folder import prepare_folder, remove_stale, reserved_path, runtime_folder
from papyra_contrib.admin._views import Views

if TYPE_CHECKING:
    from pathlib import Path

    from anyio.abc import SocketStream

    from papyra import ActorSystem

__all__ = ["AdminSocket"]

_logger = logging.getLogger("papyra")


class AdminSocket(Instrument):
    """Let tools of the same user look at a running system, over a Unix socket.

    Give it to a system as ``instruments=[AdminSocket()]``, or name it: ``PAPYRA_INSTRUMENTS=admin``. The
    socket is ``PID-SYSTEM.sock`` in ``$XDG_RUNTIME_DIR/papyra``, else ``$TMPDIR/papyra-UID``;
    ``PAPYRA_RUNTIME_DIR`` names another folder. Only this user and root can connect. ``actions=True`` also
    lets them stop actors, and ``payloads=True`` shows the messages of dead letters. Closing the system never
    waits for a client.
    """

    def __init__(self, *, actions: bool = False, payloads: bool = False) -> None:
        self._actions = actions
        self._payloads = payloads
        self._clients = 0
        self.path: Path | None = None
        """Where it listens; None before the start and after the end."""

    async def run(self, system: ActorSystem) -> None:
        """Serve until the system closes."""
        folder = runtime_folder()
        prepare_folder(folder)
        remove_stale(folder)
        views = Views(system, actions=self._actions, payloads=self._payloads)
        greeting = {
            "papyra_admin": protocol.PROTOCOL_VERSION,
            "version": __version__,
            "system_id": system.system_id,
            "run": system.run_id,
            "pid": os.getpid(),
            "loop": _loop_name(),
            "ops": sorted(views.operations),
        }
        with reserved_path(folder, system.system_id) as path:
            listener = await anyio.create_unix_listener(path, mode=0o600)
            self.path = path
            try:
                async with listener:
                    await listener.serve(lambda stream: self._serve(stream, greeting, views))
            finally:
                self.path = None

    async def _serve(self, stream: SocketStream, greeting: dict[str, Any], views: Views) -> None:
        async with stream:
            if not _is_allowed(stream):
                return None
            self._clients += 1
            try:
                with anyio.move_on_after(protocol.IDLE_SECONDS):
                    if self._clients > protocol.MAX_CLIENTS:
                        text = f"there are {protocol.MAX_CLIENTS} clients already, which is the most"
                        return await stream.send(protocol.refusal({}, text))
                    await stream.send(protocol.encode(greeting))
                await _converse(stream, views)
            except (
                anyio.BrokenResourceError,
                anyio.ClosedResourceError,
                anyio.EndOfStream,
                anyio.IncompleteRead,
            ):
                pass  # the client has left
            finally:
                self._clients -= 1


async def _converse(stream: SocketStream, views: Views) -> None:
    """Answer requests until the client leaves, says nothing for a minute or sends too long a line."""
    lines = BufferedByteReceiveStream(stream)
    while True:
        with anyio.move_on_after(protocol.IDLE_SECONDS) as idle:
            try:
                line = await lines.receive_until(b"\n", protocol.MAX_REQUEST_BYTES)
            except anyio.DelimiterNotFound:
                text = f"a request has at most {protocol.MAX_REQUEST_BYTES} bytes"
                await stream.send(protocol.refusal({}, text))
                return
            await stream.send(await _answer(line, views))
        if idle.cancelled_caught:
            return


async def _answer(line: bytes, views: Views) -> bytes:
    request: dict[str, Any] = {}
    try:
        request = protocol.parse(line)
        operation = views.operations.get(request["op"])
        if operation is None:
            known = ", ".join(sorted(views.operations))
            raise protocol.RequestRefused(f"unknown operation {request['op']!r:.100}; there are {known}")
        return protocol.answer(request, await operation(request))
    except protocol.RequestRefused as error:
        return protocol.refusal(request, str(error))
    except Exception as error:  # a view reads a system that changes; a fault in it must not end the server
        _logger.exception("the admin socket could not answer a request")
        return protocol.refusal(request, f"{type(error).__name__} in the server; its log has more")


def _is_allowed(stream: SocketStream) -> bool:
    """Whether the client is this user or root; the folder keeps out all others, and this is a second lock."""
    raw: socket.socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's method, and not Django's
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # macOS: the mode of the folder and of the socket decides
    _, uid, _ = struct.unpack(
        "3i", raw.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return uid in (0, os.getuid())


def _loop_name() -> str:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return "trio"
    return "asyncio"
