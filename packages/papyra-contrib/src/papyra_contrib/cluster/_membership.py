"""The membership of this node: it joins, lets go of a lost lease, joins anew, and leaves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from papyra.events import NodeDown, NodeUp
from papyra_contrib.cluster._errors import NOT_A_MEMBER, ClusterUnavailable, NodeGone, not_joined
from papyra_contrib.cluster._registry.joining import IncarnationSpentError
from papyra_contrib.cluster._registry.replica import EndedIncarnations

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra.cluster import LocalSystem
    from papyra_contrib.cluster._session import Session
    from papyra_contrib.cluster._transport import NodeId

    class Parts(Protocol):
        """The parts that depend on a membership: the cluster."""

        def lease_lost(self, session: Session) -> None: ...
        async def singletons_stopped(self) -> None: ...
        async def settle(self) -> None: ...


__all__ = ["Membership"]

_logger = logging.getLogger("papyra")

FIRST_BACKOFF_SECONDS: Final = 0.1
MAX_BACKOFF_SECONDS: Final = 2.0
CLOSE_SECONDS: Final = 3.0


class Membership:
    """Keeps this node a member. ``session`` is its newest incarnation, None before the first join."""

    def __init__(
        self, parts: Parts, local: LocalSystem, new_session: Callable[[], Session], join_timeout: float
    ) -> None:
        self._parts = parts
        self._local = local
        self._new_session = new_session
        self._join_timeout = join_timeout
        self.ended = EndedIncarnations()
        self.session: Session | None = None
        self.leaving = False
        self._former: str | None = None
        self._ready: anyio.Event | None = None
        self._held_events: list[tuple[Any, dict[str, Any]]] | None = []

    async def join(self) -> None:
        """Become a member under a new incarnation, or raise and leave nothing behind."""
        deadline = anyio.current_time() + self._join_timeout
        while True:
            try:
                await self._join_once()
            except IncarnationSpentError:
                if anyio.current_time() >= deadline:
                    raise
            else:
                return

    async def _join_once(self) -> None:
        self._held_events = []
        session = self._new_session()
        self.session, before = session, self.session
        try:
            await session.join(self._join_timeout, self._former)
        except BaseException as error:
            if isinstance(error, IncarnationSpentError):
                self._former = session.me.incarnation  # the next attempt ends its key
            session.closed = True
            self.session = before
            raise
        self._former = session.me.incarnation
        held, self._held_events = self._held_events or [], None
        for kind, payload in held:
            self._local.event(kind, payload)
        if self._ready is not None:
            self._ready.set()

    def let_go(self, session: Session, reason: str) -> None:
        """End the membership at once, and join anew in the background."""
        _logger.warning("node %s has lost its membership (%s) and rejoins", session.me, reason)
        was_joined = session.joined
        session.end(lambda target: NodeGone(target, "is not known any more: this node lost its lease"))
        self.ended.add(session.me, "lost")
        self._parts.lease_lost(session)
        self._record(NodeDown, session.me, "lost")
        self._ready = anyio.Event()
        if was_joined and not self.leaving:  # else the attempt to join is still under way, and sees it
            self._local.background.spawn(lambda: self._join_anew(session), "papyra cluster joins anew")

    async def _join_anew(self, session: Session) -> None:
        with anyio.CancelScope(shield=True):
            # A join ends the key of the former incarnation at once, and so the time in which no other
            # candidate begins. The singletons of this node need that time if they take long to stop.
            with anyio.move_on_after(session.transport.lease_seconds / 2):
                await self._parts.singletons_stopped()
            await self._close_old(session)
        backoff = FIRST_BACKOFF_SECONDS
        while not self.leaving:
            try:
                await self.join()
                break
            except Exception as error:  # noqa: BLE001 - whatever the engine raises: logged, and tried again until the system closes
                _logger.warning("could not rejoin the cluster: %s. Trying again in %.1f s", error, backoff)
            await anyio.sleep(backoff)
            backoff = min(MAX_BACKOFF_SECONDS, backoff * 2)
        await self._parts.settle()

    async def _close_old(self, session: Session) -> None:
        """Close the connection of a lost lease. If the peer does not read its last bytes, do not wait."""
        closed = anyio.Event()

        async def close() -> None:
            try:
                await session.transport.aclose()
            finally:
                closed.set()

        self._local.background.spawn(close, "papyra cluster closes a connection")
        with anyio.move_on_after(CLOSE_SECONDS):
            await closed.wait()

    async def session_ready(self, seconds: float) -> Session:
        """Return the session once this node is a member, or raise `ClusterUnavailable` after ``seconds``."""
        with anyio.move_on_after(seconds):
            while True:
                session = self.session
                if session is not None and session.joined:
                    return session
                if self.leaving or self._ready is None:
                    break
                await self._ready.wait()
        raise ClusterUnavailable(NOT_A_MEMBER)

    def now(self, action: str) -> Session:
        """Return the newest session; `ClusterUnavailable` says that ``action`` needs one."""
        session = self.session
        if session is None or (self.leaving and session.closed):
            raise not_joined(action)
        return session

    async def close(self) -> None:
        """End the membership, after the actors have stopped."""
        self.leaving = True
        session = self.session
        if session is not None and not session.closed:
            await session.leave()
            self._record(NodeDown, session.me, "left")

    def record_up(self, peer: NodeId) -> None:
        """Record that a node is up."""
        self._record(NodeUp, peer, None)

    def record_down(self, peer: NodeId, reason: str) -> None:
        """Record that a node is down."""
        self._record(NodeDown, peer, reason)

    def _record(self, kind: Any, peer: NodeId, reason: str | None) -> None:
        payload: dict[str, Any] = {"node": peer.node, "incarnation": peer.incarnation}
        if reason is not None:
            payload["reason"] = reason
        if self._held_events is not None:
            self._held_events.append((kind, payload))
        else:
            self._local.event(kind, payload)
