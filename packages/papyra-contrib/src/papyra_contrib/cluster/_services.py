"""The services that this node offers to the cluster."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from papyra_contrib.cluster._errors import ActorStopped, ClusterUnavailable
from papyra_contrib.cluster._registry.keys import service_key

if TYPE_CHECKING:
    from papyra import ActorRef
    from papyra.cluster import LocalSystem
    from papyra_contrib.cluster._membership import Membership
    from papyra_contrib.cluster._registrar import Registrar
    from papyra_contrib.cluster._session import Session

__all__ = ["Services"]


class Services:
    """Local actors under service keys. `settle` makes the registry agree with them."""

    def __init__(
        self, membership: Membership, registrar: Registrar, local: LocalSystem, join_timeout: float
    ) -> None:
        self._membership = membership
        self._registrar = registrar
        self._local = local
        self._join_timeout = join_timeout
        self._offered: dict[tuple[str, int], ActorRef[Any, Any]] = {}

    async def register(self, name: str, ref: ActorRef[Any, Any]) -> None:
        """Offer a service until its actor ends; if this raises, it is not offered."""
        entry = (name, ref.address.actor_id)
        if entry in self._offered:
            return
        session = self._membership.now("register a service")
        if not self._local.on_end(ref, entry, lambda _: self._actor_ended(entry)):
            raise ActorStopped(ref)
        self._offered[entry] = ref
        session.exports.add(ref)
        try:
            await self._registrar.put_service(*entry)
        except BaseException:
            if self._offered.pop(entry, None) is not None:
                self._local.off_end(ref, entry)
            raise
        if entry not in self._offered:  # it ended, or was withdrawn, meanwhile
            await self._end(entry)

    async def withdraw(self, name: str, ref: ActorRef[Any, Any]) -> None:
        """Withdraw a service."""
        entry = (name, ref.address.actor_id)
        if self._offered.pop(entry, None) is not None:
            self._local.off_end(ref, entry)
            await self._end(entry)

    async def withdraw_all(self) -> None:
        """Withdraw all services. Those that the registry does not end now end with the lease."""
        offered, self._offered = list(self._offered), {}
        async with anyio.create_task_group() as group:
            for entry in offered:
                group.start_soon(self._end_quietly, entry)

    def refs(self, name: str) -> list[ActorRef[Any, Any]]:
        """Return the actors of this node under a service key."""
        return [ref for (service, _), ref in self._offered.items() if service == name]

    def names(self) -> list[str]:
        """Return the services that this node offers, each once."""
        return list(dict.fromkeys(name for name, _ in self._offered))

    async def settle(self, session: Session) -> None:
        """Put the services that the registry lacks, as after a join, and end those it shows by mistake."""
        shown = session.replica.services_of(session.me)
        for entry, ref in list(self._offered.items()):
            session.exports.add(ref)
            if entry not in shown and entry in self._offered:
                await self._registrar.put_service(*entry)
                if entry not in self._offered:
                    await self._end(entry)
        for entry in sorted(shown - self._offered.keys()):
            await self._end(entry)

    def _actor_ended(self, entry: tuple[str, int]) -> None:
        if self._offered.pop(entry, None) is not None and not self._membership.leaving:
            self._local.background.spawn(
                lambda: self._end_quietly(entry), f"papyra cluster withdraws {entry[0]!r}"
            )

    async def _end_quietly(self, entry: tuple[str, int]) -> None:
        with suppress(ClusterUnavailable):  # `settle` tries again, or the service ends with the lease
            await self._end(entry)

    async def _end(self, entry: tuple[str, int]) -> None:
        session = await self._membership.session_ready(self._join_timeout)
        await self._registrar.end_key(service_key(entry[0], session.me.node, entry[1]))
