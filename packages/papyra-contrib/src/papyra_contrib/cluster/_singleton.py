"""One actor in the whole cluster.

Each candidate waits for the claim, and the one that has it runs the actor.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from papyra_contrib.cluster._errors import ActorNameTaken, ClusterUnavailable
from papyra_contrib.cluster._keys import name_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra import ActorRef
    from papyra.cluster import LocalSystem
    from papyra.supervision import SupervisionPolicy
    from papyra_contrib.cluster._members import Fence
    from papyra_contrib.cluster._registrar import Claimed, Registrar
    from papyra_contrib.cluster._session import Session

    class Surroundings(Protocol):
        """What a candidate needs of its cluster."""

        registrar: Registrar
        local: LocalSystem
        leaving: bool

        async def session_ready(self, seconds: float) -> Session: ...
        def claim_end_reason(self, name: str) -> str: ...


__all__ = ["Candidate"]

_logger = logging.getLogger("papyra")

RETRY_SECONDS: Final = 1.0


class Candidate:
    """The part of this node in one singleton."""

    def __init__(
        self,
        cluster: Surroundings,
        name: str,
        factory: Callable[[Fence], Any],
        policy: SupervisionPolicy | None,
        mailbox_capacity: int,
    ) -> None:
        self._cluster = cluster
        self.name = name
        self._factory = factory
        self._policy = policy
        self._capacity = mailbox_capacity
        self._ref: ActorRef[Any, Any] | None = None
        self._claimed: Claimed | None = None
        self._resigned = False
        self._ended = anyio.Event()
        self.done = anyio.Event()
        self.changed = anyio.Event()

    @property
    def ref(self) -> ActorRef[Any, Any] | None:
        """The actor, where it runs here."""
        return self._ref

    def note(self) -> None:
        """Look again: the claim may have changed."""
        self.changed.set()

    async def run(self) -> None:
        """Wait for the claim and run the actor, again and again, until the candidate resigns."""
        try:
            while not self._resigned:
                try:
                    await self._one_term()
                except (ActorNameTaken, ClusterUnavailable):
                    continue  # another candidate was faster, or the registry is away: wait for the next chance
                except Exception:
                    _logger.exception("starting the singleton %r failed; it is tried again", self.name)
                    await self._pause(RETRY_SECONDS)
        finally:
            self.done.set()

    async def _one_term(self) -> None:
        session = await self._cluster.session_ready(RETRY_SECONDS)
        self.changed = anyio.Event()
        if session.replica.claim(self.name) is not None:
            with anyio.move_on_after(RETRY_SECONDS):
                await self.changed.wait()
            return
        if self._cluster.claim_end_reason(self.name) == "expired":
            # The holder may run for the rest of its margin, and its on_stop may take time.
            await self._pause(session.transport.lease_seconds / 3)
        if self._resigned:
            return
        claimed = self._claimed = await self._cluster.registrar.claim(self.name, 0)
        try:
            if session.is_valid() and session.me == claimed.holder and not self._resigned:
                await self._serve(session, claimed)
        finally:
            await self._release()
        if not self._resigned:
            await self._pause(RETRY_SECONDS)

    async def _serve(self, session: Session, claimed: Claimed) -> None:
        self._ended = anyio.Event()
        ref: ActorRef[Any, Any] = self._cluster.local.system.spawn(
            lambda: self._factory(claimed.fence), mailbox_capacity=self._capacity, policy=self._policy
        )
        self._ref = ref
        self._cluster.local.on_end(ref, self, lambda _: self._ended.set())
        try:
            number = session.exports.add(ref)
            self._claimed = await self._cluster.registrar.complete_claim(self.name, claimed, number)
            await self._ended.wait()
        finally:
            self._ref = None
            with anyio.CancelScope(shield=True):
                await self.stop_actor(ref, None)

    async def stop_actor(self, ref: ActorRef[Any, Any] | None, timeout: float | None) -> None:
        """Stop the actor, forced after ``timeout`` seconds, and return when it has stopped."""
        if ref is not None and ref.is_alive():
            await self._cluster.local.system.stop(ref, timeout=timeout)

    async def _release(self) -> None:
        """Give the claim up: the actor has stopped."""
        claimed, self._claimed = self._claimed, None
        if claimed is None:
            return
        try:
            session = await self._cluster.session_ready(0.1)
            if session.me == claimed.holder:
                await self._cluster.registrar.end_key(name_key(self.name), only=claimed.value)
        except ClusterUnavailable:
            pass  # the lease ends, and the claim with it

    def let_go(self, timeout: float) -> None:
        """Stop the actor at once: the lease is lost."""
        ref = self._ref
        self._claimed = None
        if ref is not None:
            self._cluster.local.background.spawn(
                lambda: self.stop_actor(ref, timeout), f"papyra cluster stops the singleton {self.name}"
            )

    async def resign(self) -> None:
        """Be no candidate any more; returns when the actor has stopped and the claim is given up."""
        self._resigned = True
        self.changed.set()
        await self.stop_actor(self._ref, None)
        await self.done.wait()

    async def _pause(self, seconds: float) -> None:
        deadline = anyio.current_time() + seconds
        while not self._resigned and anyio.current_time() < deadline:
            self.changed = anyio.Event()
            with anyio.move_on_after(deadline - anyio.current_time()):
                await self.changed.wait()
