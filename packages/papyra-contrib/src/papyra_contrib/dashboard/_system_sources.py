"""Sources that answer the operations of the admin socket: a system of this process, one behind a socket."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import TYPE_CHECKING, cast

import anyio

from papyra import __version__
from papyra.exceptions import PapyraError
from papyra_contrib.admin._client import AdminConnection, NoAnswer
from papyra_contrib.admin._protocol import RequestRefused
from papyra_contrib.admin._views import Views
from papyra_contrib.dashboard._source import Answer, Source, SourceGone, SourceRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from papyra import ActorSystem

__all__ = ["LATEST_FACTS", "LiveSource", "SocketSource"]

LATEST_FACTS = 100
PATIENCE_SECONDS = 10.0

_LOST = (NoAnswer, OSError, ValueError)  # also a time-out, and what is not a JSON object


class _Operations(Source):
    """Answers each question with an operation, and its arguments as fields of the request."""

    @abstractmethod
    async def ask(self, op: str, **fields: object) -> Answer:
        """Return the result of an operation."""

    @abstractmethod
    def about(self) -> Answer:
        """Return ``pid``, ``version`` and ``loop`` of the system."""

    async def overview(self) -> Answer:
        answer = await self.ask("overview")
        facts = await self.ask("events", limit=LATEST_FACTS)
        return {**answer, "events": facts["rows"], "about": self.about()}

    async def actors(self, *, by: str, limit: int, offset: int, find: str) -> Answer:
        return await self.ask("top", by=by, limit=limit, offset=offset, **({"find": find} if find else {}))

    async def tree(self, *, below: str, kind: str, limit: int, offset: int) -> Answer:
        part: dict[str, object] = {"below": below} if below else {}
        if kind:
            part |= {"type": kind, "all": True, "depth": 0}
        return await self.ask("tree", limit=limit, offset=offset, **part)

    async def actor(self, actor: str) -> Answer:
        return await self.ask("actor", actor=actor)

    async def letters(self, *, limit: int, offset: int) -> Answer:
        return await self.ask("dead_letters", limit=limit, offset=offset)

    async def events(
        self, *, limit: int, offset: int, kind: str, actor: str, since: float | None, until: float | None
    ) -> Answer:
        given = {"type": kind or None, "actor": actor or None, "since": since, "until": until}
        wanted = {name: value for name, value in given.items() if value is not None}
        return await self.ask("events", limit=limit, offset=offset, bars=True, **wanted)

    async def store(self) -> Answer:
        return await self.ask("store")

    async def plugins(self) -> Answer:
        return await self.ask("plugins")

    async def act(self, action: str, actor: str) -> str:
        if action not in self.actions:
            return await super().act(action, actor)
        return f"stopped {(await self.ask('stop', actor=actor))['stopped']}"


class LiveSource(_Operations):
    """A system of this process."""

    actions = frozenset({"stop", "compact", "audit"})

    def __init__(self, system: ActorSystem, *, payloads: bool = False) -> None:
        self._system = system
        self._views = Views(system, actions=True, payloads=payloads)

    def about(self) -> Answer:
        return {"pid": os.getpid(), "version": __version__}

    async def ask(self, op: str, **fields: object) -> Answer:
        try:
            return cast("Answer", await self._views.operations[op](fields))
        except RequestRefused as error:
            raise SourceRefused(str(error)) from error
        except PapyraError as error:  # not started yet, or closed
            raise SourceGone(str(error)) from error

    async def act(self, action: str, actor: str) -> str:
        if action == "audit":
            report = self._system.audit(include_actor_details=False)
            return f"audited: {report.alive_actors:,} actors alive"
        if action == "compact":
            done = await self._system.compact()
            return f"compacted: {done.removed_records:,} records removed, {done.after_records:,} kept"
        return await super().act(action, actor)


class SocketSource(_Operations):
    """A system of another process, behind its admin socket.

    ``where`` is the path of the socket, or a function that finds it: one that runs again after the system was
    started anew has another path.
    """

    kind = "socket"

    def __init__(self, where: Path | str | Callable[[], Path]) -> None:
        self._where = where
        self._connection: AdminConnection | None = None
        self._greeting: Answer = {}
        self._turn = anyio.Lock()

    def about(self) -> Answer:
        return {name: self._greeting.get(name) for name in ("pid", "version", "loop")}

    async def ask(self, op: str, **fields: object) -> Answer:
        async with self._turn:
            reply = await self._asked(op, fields)
        if not reply.get("ok"):
            raise SourceRefused(str(reply.get("error", "the system gave no answer")))
        return cast("Answer", reply["result"])

    async def _asked(self, op: str, fields: dict[str, object]) -> Answer:
        """Send a request and return the answer, over a new connection if the one that is open has ended."""
        fresh = self._connection is None
        try:
            with anyio.fail_after(PATIENCE_SECONDS):
                connection = self._connection or await self._connect()
                connection.send(op, **fields)
                return await connection.read()
        except _LOST as error:
            self._close()
            if fresh:
                raise SourceGone("the system has ended, or does not answer") from error
        except BaseException:  # a cancelled request: its answer would be taken for that of the next one
            self._close()
            raise
        return await self._asked(op, fields)

    async def _connect(self) -> AdminConnection:
        path = self._where() if callable(self._where) else self._where
        self._connection = connection = AdminConnection()
        await connection.connect(path)
        self._greeting = await connection.read()
        if "papyra_admin" not in self._greeting:
            raise ValueError(str(self._greeting.get("error", "not an admin socket of Papyra")))
        self.actions = frozenset({"stop"} & set(self._greeting.get("ops", ())))
        return connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def aclose(self) -> None:
        if self._turn.locked():  # a request is on its way, and it closes the connection
            if self._connection is not None:
                self._connection.end()
        else:
            self._close()
