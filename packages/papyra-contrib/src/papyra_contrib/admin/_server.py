"""The server: an instrument whose task answers on a Unix socket."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections import deque
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute

from papyra import __version__
from papyra.instruments import Instrument
from papyra_contrib.admin import _protocol as protocol
from papyra_contrib.admin._budget import Budget, ClientBudget, metered
from papyra_contrib.admin._folder import prepare_folder, remove_stale, reserved_path, runtime_folder
from papyra_contrib.admin._views import Views

if TYPE_CHECKING:
    from pathlib import Path

    from anyio.abc import SocketListener, SocketStream, TaskGroup

    from papyra import ActorSystem

__all__ = ["AdminSocket"]

CLIENTS_SHARE = 0.02  # of the loop's time, for all clients together
CLIENTS_BURST_SECONDS = 1.0  # `papyra tree --all` and the like run at full speed
ACCEPT_SHARE = 0.005  # of the loop's time, for accepting and refusing connections
ACCEPT_BURST_SECONDS = 0.2
MAX_QUEUED_CONNECTIONS = 64  # all are accepted or refused before a tool gives up
ACCEPT_AGAIN_SECONDS = 0.1

_logger = logging.getLogger("papyra")


class AdminSocket(Instrument):
    """Let tools of the same user look at a running system, over a Unix socket.

    Give it to a system as ``instruments=[AdminSocket()]``, or name it: ``PAPYRA_INSTRUMENTS=admin``. The
    socket is ``PID-SYSTEM.sock`` in ``$XDG_RUNTIME_DIR/papyra``, else ``$TMPDIR/papyra-UID``;
    ``PAPYRA_RUNTIME_DIR`` names another folder. Only this user and root can connect. ``actions=True`` also
    lets them stop actors, and ``payloads=True`` shows the messages of dead letters. All clients together take
    at most about 2.5 % of the event loop's time, and may take a second at once after a quiet time. They may
    take more in systems of over 100,000 actors, where one answer takes over 0.16 s. Closing the system never
    waits for a client.
    """

    def __init__(self, *, actions: bool = False, payloads: bool = False) -> None:
        self._actions = actions
        self._payloads = payloads
        clients = Budget(CLIENTS_SHARE, CLIENTS_BURST_SECONDS)
        self._budgets = deque(ClientBudget(clients) for _ in range(protocol.MAX_CLIENTS))
        self.path: Path | None = None
        """The path of the socket; None before the start and after the end."""

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
            listener = await anyio.create_unix_listener(path, mode=0o600, backlog=MAX_QUEUED_CONNECTIONS)
            self.path = path
            try:
                async with listener, anyio.create_task_group() as tasks:
                    accepting = Budget(ACCEPT_SHARE, ACCEPT_BURST_SECONDS)
                    await metered(
                        self._admit(listener, tasks, accepting, protocol.encode(greeting), views), accepting
                    )
            finally:
                self.path = None

    async def _admit(
        self,
        listener: SocketListener,
        tasks: TaskGroup,
        accepting: Budget,
        greeting: bytes,
        views: Views,
    ) -> None:
        """Accept clients. Each takes a budget, with the time or debt that its last client has left."""
        while True:
            await anyio.sleep(accepting.pause())
            try:
                stream = await listener.accept()
            except anyio.BrokenResourceError:  # the client has left, or too many files are open
                await anyio.sleep(ACCEPT_AGAIN_SECONDS)
                continue
            if not _is_allowed(stream):
                await stream.aclose()
            elif self._budgets:
                tasks.start_soon(self._serve, stream, self._budgets.popleft(), greeting, views)
            else:
                text = f"there are {protocol.MAX_CLIENTS} clients already, the maximum"
                async with stream:
                    with suppress(anyio.BrokenResourceError):  # it has left
                        await stream.send(protocol.refusal({}, text))  # a new connection has room for a line

    async def _serve(self, stream: SocketStream, budget: ClientBudget, greeting: bytes, views: Views) -> None:
        try:
            async with stream:
                with suppress(
                    anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, TimeoutError
                ):  # the client has left, or is idle
                    await metered(_converse(stream, budget, greeting, views), budget)
        finally:
            self._budgets.append(budget)


async def _converse(stream: SocketStream, budget: Budget, greeting: bytes, views: Views) -> None:
    """Greet, and answer until the client leaves, is idle for a minute or sends too long a line."""
    await stream.send(greeting)  # a new connection has room for a line
    line = b""
    while True:
        with anyio.fail_after(protocol.IDLE_SECONDS):
            received = await stream.receive()
        for part in BytesIO(received):  # lines, the last of which may be incomplete
            await budget.turn()
            line += part
            if len(line) > protocol.MAX_REQUEST_BYTES:
                text = protocol.refusal({}, f"a request may have at most {protocol.MAX_REQUEST_BYTES} bytes")
                return await stream.send(text)
            if line.endswith(b"\n"):
                with anyio.fail_after(protocol.IDLE_SECONDS):
                    await stream.send(await _answer(line, views))
                line = b""


async def _answer(line: bytes, views: Views) -> bytes:
    request: dict[str, Any] = {}
    try:
        request = protocol.parse(line)
        operation = views.operations.get(request["op"])
        if operation is None:
            valid = ", ".join(sorted(views.operations))
            raise protocol.RequestRefused(f"unknown operation {request['op']!r:.100}; valid ones are {valid}")
        return protocol.answer(request, await operation(request))
    except protocol.RequestRefused as error:
        return protocol.refusal(request, str(error))
    except Exception as error:  # a view reads a system that changes; a fault in it must not end the server
        _logger.exception("the admin socket could not answer a request")
        return protocol.refusal(request, f"{type(error).__name__} in the server; its log has more")


def _is_allowed(stream: SocketStream) -> bool:
    """Whether the client is this user or root. The folder keeps out others, too: this is a second lock."""
    raw: socket.socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's method, not Django's
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
