"""The registry as an operator sees it, read without joining."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

from papyra_contrib.cluster._discovery import open_transport
from papyra_contrib.cluster._registry.keys import unescape
from papyra_contrib.cluster._registry.members import Fence
from papyra_contrib.cluster._registry.replica import EndedIncarnations, Replica
from papyra_contrib.cluster._transport import Ended, NodeId, not_open

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from papyra_contrib.cluster._transport import Change, Transport

__all__ = ["RegistryView", "open_view"]

READER: Final = NodeId("papyra-cluster-command", "000000000000")
OPEN_SECONDS: Final = 5.0


class RegistryView:
    """Follows the registry without joining the cluster. It uses only the changes."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._replica = Replica(self, time.monotonic, EndedIncarnations())
        self.is_synced = False
        self.changed = anyio.Event()

    # -- the host of the transport

    def on_frame(self, peer: NodeId, frame: bytes) -> None:
        """Do nothing: a view gets no messages."""

    def on_unreachable(self, ask: int) -> None:
        """Do nothing: a view asks no actor."""

    def on_lost(self, reason: str) -> None:
        """Do nothing: a view holds no lease."""

    def on_change(self, change: Change) -> None:
        """Apply a change to the replica."""
        self._replica.apply(change)
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    # -- the listener of the replica

    def member_up(self, peer: NodeId) -> None:
        """Do nothing: the tables are made when they are asked for."""

    def member_down(self, peer: NodeId, reason: str) -> None:
        """Do nothing, as `member_up`."""

    def services_changed(self, names: Iterable[str]) -> None:
        """Do nothing, as `member_up`."""

    def name_changed(self, name: str) -> None:
        """Do nothing, as `member_up`."""

    def doubt(self, key: str) -> None:
        """Believe what was read last: an operator looks again."""

    def synced(self) -> None:
        """Note that the whole registry was read."""
        self.is_synced = True

    # -- tables

    async def refresh(self) -> None:
        """Drop the nodes whose leases have expired."""
        for node in self._replica.overdue(float(self._transport.lease_seconds), ""):
            key = f"n.{node}"
            if await self._transport.get(key) is None:
                self._replica.apply(Ended(key, "expired"))

    def nodes(self) -> list[tuple[str, ...]]:
        """Return name, incarnation, since, host, pid and version of each node."""
        return [
            (node.node, node.incarnation, f"{node.since:.3f}", node.host, str(node.pid), node.version)
            for node in sorted(self._replica.members.values(), key=lambda node: (node.since, node.node))
        ]

    def names(self) -> list[tuple[str, ...]]:
        """Return name, address and fence of each claim whose node is a member."""
        rows: list[tuple[str, ...]] = []
        for key in sorted(self._replica.entries):
            if key.startswith("a."):
                name = unescape(key[2:])
                claim = self._replica.claim(name)
                if claim is not None:
                    fence = Fence(self._transport.epoch, claim.revision)
                    rows.append((name, f"{claim.holder}:{claim.actor_id}", str(fence)))
        return rows

    def services(self) -> list[tuple[str, ...]]:
        """Return key and address of each service whose node is a member."""
        names = {unescape(key[2:].partition(".")[0]) for key in self._replica.entries if key.startswith("s.")}
        return [
            (name, f"{service.holder}:{service.actor_id}")
            for name in sorted(names)
            for service in self._replica.find(name)
        ]


@asynccontextmanager
async def open_view(url: str) -> AsyncGenerator[RegistryView]:
    """Read the registry of the cluster at ``url``; `ClusterUnavailable` if nobody answers."""
    transport = open_transport(url, lease=None, stall=30.0)()
    view = RegistryView(transport)
    try:
        try:
            with anyio.fail_after(OPEN_SECONDS):
                await transport.open(READER, view)
                while not view.is_synced:
                    await view.changed.wait()
        except TimeoutError:
            raise not_open(transport, OPEN_SECONDS) from None
        yield view
    finally:
        with anyio.CancelScope(shield=True):
            await transport.aclose()
