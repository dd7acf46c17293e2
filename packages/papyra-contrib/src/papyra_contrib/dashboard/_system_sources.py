"""Sources that answer the operations of the admin socket: a system of this process, one behind a socket."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from typing import TYPE_CHECKING, cast

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from papyra import __version__
from papyra.exceptions import PapyraError
from papyra_contrib.admin._protocol import MAX_ANSWER_BYTES, RequestRefused, read_object
from papyra_contrib.admin._views import Views
from papyra_contrib.dashboard._source import Answer, Source, SourceGone, SourceRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anyio.abc import SocketStream

    from papyra import ActorSystem

__all__ = ["LATEST_FACTS", "LiveSource", "SocketSource"]

LATEST_FACTS = 100
PATIENCE_SECONDS = 10.0

_LOST = (
    OSError,  # also a time-out
    ValueError,  # not a JSON object
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.DelimiterNotFound,
    anyio.EndOfStream,
    anyio.IncompleteRead,
)


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
        if action != "stop":
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
        self._stream: SocketStream | None = None
        self._lines: BufferedByteReceiveStream | None = None
        self._greeting: Answer = {}
        self._turn = anyio.Lock()

    def about(self) -> Answer:
        return {name: self._greeting.get(name) for name in ("pid", "version", "loop")}

    async def ask(self, op: str, **fields: object) -> Answer:
        line = json.dumps({"id": 1, "op": op, **fields}).encode() + b"\n"
        async with self._turn:
            reply = await self._asked(line)
        if not reply.get("ok"):
            raise SourceRefused(str(reply.get("error", "the system gave no answer")))
        return cast("Answer", reply["result"])

    async def _asked(self, line: bytes) -> Answer:
        """Send a request and return the answer, over a new connection if the one that is open has ended."""
        fresh = self._stream is None
        try:
            with anyio.fail_after(PATIENCE_SECONDS):
                if self._stream is None:
                    await self._connect()
                assert self._stream is not None  # noqa: S101 - connected
                await self._stream.send(line)
                return await self._read()
        except _LOST as error:
            await self.aclose()
            if fresh:
                raise SourceGone("the system has ended, or does not answer") from error
        except BaseException:  # a cancelled request: its answer would be taken for that of the next one
            await self.aclose()
            raise
        return await self._asked(line)

    async def _connect(self) -> None:
        path = self._where() if callable(self._where) else self._where
        self._stream = await anyio.connect_unix(path)
        self._lines = BufferedByteReceiveStream(self._stream)
        self._greeting = await self._read()
        if "papyra_admin" not in self._greeting:
            raise ValueError(str(self._greeting.get("error", "not an admin socket of Papyra")))
        self.actions = frozenset({"stop"} & set(self._greeting.get("ops", ())))

    async def _read(self) -> Answer:
        assert self._lines is not None  # noqa: S101 - connected
        return read_object(await self._lines.receive_until(b"\n", MAX_ANSWER_BYTES))

    async def aclose(self) -> None:
        stream, self._stream, self._lines = self._stream, None, None
        if stream is not None:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1.0):
                await stream.aclose()
