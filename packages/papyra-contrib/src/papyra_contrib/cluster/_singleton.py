"""One actor in the whole cluster.

Each candidate waits for the claim, and the one that has it runs the actor.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import anyio

from papyra_contrib.cluster._errors import ActorNameTaken, ClusterUnavailable
from papyra_contrib.cluster._registry.keys import name_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra import ActorRef
    from papyra.cluster import LocalSystem
    from papyra.supervision import SupervisionPolicy
    from papyra_contrib.cluster._claims import Claims
    from papyra_contrib.cluster._membership import Membership
    from papyra_contrib.cluster._registrar import Claimed, Registrar
    from papyra_contrib.cluster._registry.members import Fence
    from papyra_contrib.cluster._session import Session


__all__ = ["Candidate", "Singletons"]

_logger = logging.getLogger("papyra")

RETRY_SECONDS: Final = 1.0


class Candidate:
    """The candidacy of this node for one singleton."""

    def __init__(
        self,
        singletons: Singletons,
        name: str,
        factory: Callable[[Fence], Any],
        policy: SupervisionPolicy | None,
        mailbox_capacity: int,
    ) -> None:
        self._singletons = singletons
        self.name = name
        self._factory = factory
        self._policy = policy
        self._capacity = mailbox_capacity
        self._ref: ActorRef[Any, Any] | None = None
        self._claimed: Claimed | None = None
        self._resigned = False
        self._ended = anyio.Event()
        self._term_ended = anyio.Event()
        self.busy = False  # it is claiming the name, or has claimed it
        self.done = anyio.Event()
        self.changed = anyio.Event()

    def note(self) -> None:
        """Note that the claim may have changed."""
        self.changed.set()

    async def run(self) -> None:
        """Wait for the claim and run the actor, again and again, until it resigns or its node leaves."""
        try:
            while not (self._resigned or self._singletons.membership.leaving):
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
        session = await self._singletons.membership.session_ready(RETRY_SECONDS)
        self.changed = anyio.Event()
        if session.replica.claim(self.name) is not None:
            with anyio.move_on_after(RETRY_SECONDS):
                await self.changed.wait()
            return
        if self._singletons.end_reason(self.name) == "expired":
            # The holder may run for the rest of its margin, and its on_stop may take time.
            await self._pause(session.transport.lease_seconds / 3)
        if self._resigned:
            return
        self.busy = True
        try:
            await self._hold(session)
        finally:
            self.busy = False
        if not self._resigned:
            await self._pause(RETRY_SECONDS)

    async def _hold(self, session: Session) -> None:
        claimed = self._claimed = await self._singletons.registrar.claim(self.name, 0)
        try:
            if session.is_valid() and session.me == claimed.holder and not self._resigned:
                await self._serve(session, claimed)
        finally:
            await self._release()

    async def _serve(self, session: Session, claimed: Claimed) -> None:
        self._ended = anyio.Event()
        ref: ActorRef[Any, Any] = self._singletons.local.system.spawn(
            lambda: self._factory(claimed.fence), mailbox_capacity=self._capacity, policy=self._policy
        )
        self._ref, self._term_ended = ref, anyio.Event()
        self._singletons.local.on_end(ref, self, lambda _: self._ended.set())
        try:
            number = session.exports.add(ref)
            self._claimed = await self._singletons.registrar.complete_claim(self.name, claimed, number)
            await self._ended.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await self.stop_actor(ref, None)
            self._ref = None
            self._term_ended.set()

    async def stop_actor(self, ref: ActorRef[Any, Any] | None, timeout: float | None) -> None:
        """Stop the actor, forced after ``timeout`` seconds, and return when it has stopped."""
        if ref is not None and ref.is_alive():
            await self._singletons.local.system.stop(ref, timeout=timeout)

    async def _release(self) -> None:
        """Give the claim up: the actor has stopped."""
        claimed, self._claimed = self._claimed, None
        if claimed is None:
            return
        try:
            session = await self._singletons.membership.session_ready(0.1)
            if session.me == claimed.holder:
                await self._singletons.registrar.end_key(name_key(self.name), claimed.matches)
        except ClusterUnavailable:
            pass  # `Claims.settle` ends it once the registry answers, or it ends with the lease

    def let_go(self, timeout: float) -> None:
        """Stop the actor, forced after ``timeout`` seconds: the lease is lost."""
        ref = self._ref
        self._claimed = None
        if ref is not None:
            self._singletons.local.background.spawn(
                lambda: self.stop_actor(ref, timeout), f"papyra cluster stops the singleton {self.name}"
            )

    async def stopped(self) -> None:
        """Wait until no actor of this candidate runs."""
        while self._ref is not None:
            await self._term_ended.wait()

    async def resign(self) -> None:
        """Stop being a candidate. Return once the actor has stopped and the claim is given up."""
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


class Singletons:
    """The singletons that this node is a candidate for."""

    def __init__(
        self, membership: Membership, registrar: Registrar, local: LocalSystem, claims: Claims
    ) -> None:
        self.membership = membership
        self.registrar = registrar
        self.local = local
        self._claims = claims
        self._candidates: dict[str, Candidate] = {}
        self._at_work: dict[Candidate, None] = {}  # also one that has resigned, until its actor has stopped

    def apply(
        self,
        name: str,
        factory: Callable[[Fence], Any],
        policy: SupervisionPolicy | None,
        mailbox_capacity: int,
    ) -> None:
        """Make this node a candidate for a singleton."""
        if name in self._candidates:
            raise ValueError(f"this node is a candidate for {name!r} already; resign first")
        candidate = self._candidates[name] = Candidate(self, name, factory, policy, mailbox_capacity)
        self._at_work[candidate] = None
        self.local.background.spawn(lambda: self._run(candidate), f"papyra cluster singleton {name!r}")

    async def _run(self, candidate: Candidate) -> None:
        try:
            await candidate.run()
        finally:
            self._at_work.pop(candidate, None)

    async def resign(self, name: str) -> None:
        """Stop being a candidate. Return once the actor has stopped."""
        candidate = self._candidates.pop(name, None)
        if candidate is not None:
            await candidate.resign()

    async def resign_all(self) -> None:
        """Resign from every candidacy."""
        async with anyio.create_task_group() as group:
            for name in list(self._candidates):
                group.start_soon(self.resign, name)

    def let_go(self, timeout: float) -> None:
        """Stop every actor, forced after ``timeout`` seconds: the lease is lost."""
        for candidate in self._at_work:
            candidate.let_go(timeout)

    async def stopped(self) -> None:
        """Wait until none of the actors is running."""
        for candidate in list(self._at_work):
            await candidate.stopped()

    def busy(self) -> set[str]:
        """Return the names that a candidate of this node claims or has."""
        return {candidate.name for candidate in self._at_work if candidate.busy}

    def name_changed(self, name: str) -> None:
        """Note that the claim of a name may have changed."""
        candidate = self._candidates.get(name)
        if candidate is not None:
            candidate.note()

    def end_reason(self, name: str) -> str:
        """Say how the last claim of a name ended: ``expired`` if its holder may run for a moment longer."""
        session = self.membership.session
        holder = self._claims.last_holder(session, name) if session is not None else None
        return "left" if holder is None else self.membership.ended.reason(holder)
