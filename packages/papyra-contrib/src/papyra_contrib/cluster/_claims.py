"""The unique names that this node holds."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import anyio

from papyra.cluster import Mail
from papyra_contrib.cluster._errors import ActorNameTaken, ActorStopped, ClusterUnavailable
from papyra_contrib.cluster._registry import members
from papyra_contrib.cluster._registry.keys import name_key
from papyra_contrib.cluster._registry.members import NameLost

if TYPE_CHECKING:
    from collections.abc import Container

    from papyra import ActorRef
    from papyra.cluster import LocalSystem
    from papyra_contrib.cluster._membership import Membership
    from papyra_contrib.cluster._registrar import Claimed, Registrar
    from papyra_contrib.cluster._registry.members import Fence
    from papyra_contrib.cluster._session import Session
    from papyra_contrib.cluster._transport import Entry, NodeId


__all__ = ["Claims"]


class Claims:
    """The names of local actors, with their claims. `settle` makes the registry agree with them."""

    def __init__(self, membership: Membership, registrar: Registrar, local: LocalSystem) -> None:
        self._membership = membership
        self._registrar = registrar
        self._local = local
        self._held: dict[str, tuple[ActorRef[Any, Any], Claimed]] = {}
        self._locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()  # of claims under way

    async def claim(self, name: str, ref: ActorRef[Any, Any]) -> Fence:
        """Claim a name for an actor and keep it until the actor ends.

        An actor that has the name already gets its present fence: a greater one would invalidate its writes.
        """
        if not name or len(name) > 128:
            raise ValueError(f"a name must have 1 to 128 characters, not {name!r}")
        async with self._lock(name):
            session = await self._membership.session_ready(1.0)
            if name in self._held and not self._holds(name, ref):  # also while it is claimed anew
                raise ActorNameTaken(name, f"{session.me}:{self._held[name][0].address.actor_id}")
            claimed = self._shown(session, name)
            if claimed is None:
                claimed = await self._registrar.claim(name, session.exports.add(ref))
                self._held[name] = (ref, claimed)
        if not self._local.on_end(ref, (self, name), lambda _: self._actor_ended(name)):
            await self.release(name)
            raise ActorStopped(ref)
        return claimed.fence

    async def release(self, name: str) -> None:
        """Give up a name."""
        held = self._held.pop(name, None)
        if held is not None:
            ref, claimed = held
            self._local.off_end(ref, (self, name))
            await self._registrar.end_key(name_key(name), claimed.matches)

    async def release_all(self) -> None:
        """Give up all names."""
        for name in list(self._held):
            await self._release_quietly(name)

    async def settle(self, session: Session, busy: Container[str]) -> None:
        """Claim anew the names that the registry lacks, as after a join, and end claims without a holder.

        Claims of ``busy`` names stay as they are.
        """
        for name, (ref, _) in list(self._held.items()):
            async with self._lock(name):
                if self._holds(name, ref) and not session.closed and self._shown(session, name) is None:
                    await self._claim_anew(session, name, ref)
        for name in session.replica.claims_of(session.me):
            if name not in self._held and name not in busy and name not in self._locks:
                revision = session.replica.revision(name_key(name))  # a later claim stays
                await self._registrar.end_key(name_key(name), partial(_is_at, revision))

    async def _claim_anew(self, session: Session, name: str, ref: ActorRef[Any, Any]) -> None:
        """Claim a name of a former incarnation; an actor whose name is taken meanwhile gets a `NameLost`."""
        try:
            claimed = await self._registrar.claim(name, session.exports.add(ref))
        except ActorNameTaken:
            if self._holds(name, ref):
                self._lose(name)
        else:
            if self._holds(name, ref):
                self._held[name] = (ref, claimed)
            else:  # it was released meanwhile
                await self._registrar.end_key(name_key(name), claimed.matches)

    def last_holder(self, session: Session, name: str) -> NodeId | None:
        """Return the node that claimed a name last, if the registry still shows its claim."""
        entry = session.replica.entries.get(name_key(name))
        claim = members.read_claim(entry.value, entry.revision) if entry is not None else None
        return claim.holder if claim is not None else None

    def _lock(self, name: str) -> anyio.Lock:
        """Return the lock that makes this node claim a name once at a time."""
        return self._locks.setdefault(name, anyio.Lock())

    def _shown(self, session: Session, name: str) -> Claimed | None:
        """Return the claim of a name that this node holds, if the registry shows it."""
        _, claimed = self._held.get(name, (None, None))
        entry = session.replica.entries.get(name_key(name))
        if claimed is None or entry is None or claimed.holder != session.me:
            return None
        return claimed if claimed.matches(entry) else None

    def _holds(self, name: str, ref: ActorRef[Any, Any]) -> bool:
        return name in self._held and self._held[name][0] == ref

    def _lose(self, name: str) -> None:
        """Take a name away from its actor, and send it a `NameLost`."""
        ref, _ = self._held.pop(name)
        self._local.off_end(ref, (self, name))
        mail = Mail(NameLost(name))
        self._local.background.spawn(
            lambda: self._deliver(ref, mail), f"papyra cluster reports that {name!r} is lost"
        )

    async def _deliver(self, ref: ActorRef[Any, Any], mail: Mail) -> None:
        with suppress(ActorStopped):  # it left its dead letter
            await self._local.deliver(ref, mail)

    def _actor_ended(self, name: str) -> None:
        if not self._membership.leaving:
            self._local.background.spawn(
                lambda: self._release_quietly(name), f"papyra cluster releases {name!r}"
            )

    async def _release_quietly(self, name: str) -> None:
        with suppress(ClusterUnavailable):  # `settle` tries again, or the claim ends with the lease
            await self.release(name)


def _is_at(revision: int, entry: Entry) -> bool:
    return entry.revision == revision
