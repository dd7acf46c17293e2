"""The unique names that this node holds."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from papyra.cluster import Mail
from papyra_contrib.cluster import _members
from papyra_contrib.cluster._errors import ActorNameTaken, ActorStopped, ClusterUnavailable
from papyra_contrib.cluster._keys import name_key
from papyra_contrib.cluster._members import NameLost

if TYPE_CHECKING:
    from papyra import ActorRef
    from papyra.cluster import LocalSystem
    from papyra_contrib.cluster._members import Fence
    from papyra_contrib.cluster._port import NodeId
    from papyra_contrib.cluster._registrar import Claimed, Registrar
    from papyra_contrib.cluster._session import Session

    class Surroundings(Protocol):
        """What claims need of their cluster."""

        registrar: Registrar
        leaving: bool

        async def session_ready(self, seconds: float) -> Session: ...


__all__ = ["Claims"]

_logger = logging.getLogger("papyra")


class Claims:
    """Names of local actors, with the claim of each."""

    def __init__(self, cluster: Surroundings, local: LocalSystem) -> None:
        self._cluster = cluster
        self._local = local
        self._held: dict[str, tuple[ActorRef[Any, Any], Claimed]] = {}

    async def claim(self, name: str, ref: ActorRef[Any, Any]) -> Fence:
        """Claim a name for an actor and keep it until the actor ends."""
        if not name or len(name) > 128:
            raise ValueError(f"a name has 1 to 128 characters, and is not {name!r}")
        session = await self._cluster.session_ready(1.0)
        claimed = await self._cluster.registrar.claim(name, session.exports.add(ref))
        self._held[name] = (ref, claimed)
        if not self._local.on_end(ref, (self, name), lambda _: self._actor_ended(name)):
            await self.release(name)
            raise ActorStopped(ref)
        return claimed.fence

    async def release(self, name: str) -> None:
        """Give a name up."""
        held = self._held.pop(name, None)
        if held is not None:
            ref, claimed = held
            self._local.off_end(ref, (self, name))
            await self._cluster.registrar.end_key(name_key(name), only=claimed.value)

    async def release_all(self) -> None:
        """Give all names up."""
        for name in list(self._held):
            await self.release(name)

    async def claim_again(self) -> None:
        """Claim the names of living actors after a join; an actor whose name is taken is notified."""
        for name, (ref, _) in list(self._held.items()):
            session = await self._cluster.session_ready(1.0)
            try:
                claimed = await self._cluster.registrar.claim(name, session.exports.add(ref))
            except ActorNameTaken:
                self._held.pop(name, None)
                self._local.off_end(ref, (self, name))
                self._tell_lost(name, ref)
            else:
                self._held[name] = (ref, claimed)

    def last_holder(self, session: Session, name: str) -> NodeId | None:
        """Return who claimed a name last, as far as the registry still shows it."""
        entry = session.replica.entries.get(name_key(name))
        claim = _members.read_claim(entry.value, entry.revision) if entry is not None else None
        return claim.holder if claim is not None else None

    def _tell_lost(self, name: str, ref: ActorRef[Any, Any]) -> None:
        mail = Mail(NameLost(name))
        self._local.background.spawn(
            lambda: self._deliver(ref, mail), f"papyra cluster reports that {name!r} is lost"
        )

    async def _deliver(self, ref: ActorRef[Any, Any], mail: Mail) -> None:
        with suppress(ActorStopped):  # it left its dead letter
            await self._local.deliver(ref, mail)

    def _actor_ended(self, name: str) -> None:
        if not self._cluster.leaving:
            self._local.background.spawn(
                lambda: self._release_quietly(name), f"papyra cluster releases {name!r}"
            )

    async def _release_quietly(self, name: str) -> None:
        try:
            await self.release(name)
        except ClusterUnavailable as error:
            _logger.warning("releasing the name %r failed: %s", name, error)
