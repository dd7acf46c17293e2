"""A network in memory with faults, for seeded tests of clustered programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra_contrib.cluster import Cluster
from papyra_contrib.cluster._memory import MemoryTransport
from papyra_contrib.cluster._memory_hub import Faults, Hub

if TYPE_CHECKING:
    from typing import Any

__all__ = ["MemoryNetwork"]


class MemoryNetwork:
    """Nodes, a network and a registry in one event loop, on its clock.

    ``loss`` and ``duplicate`` are shares of messages, ``delay`` is a range of seconds, ``lag`` is
    how many seconds followers of the registry may be behind. ``loss`` is also a share of the writes to the
    registry: the write is lost, or its answer, or it is done after its sender has given up. With
    `papyra.testing.run_seeded`, any process can repeat a run: incarnations, the epoch of fences and the
    times of joins depend on the seed, too. To test the loss of the registry, use a second network in the
    same run: the one whose first node opens later has the greater fences.
    """

    def __init__(
        self,
        seed: int,
        *,
        loss: float = 0,
        duplicate: float = 0,
        delay: tuple[float, float] = (0, 0),
        lag: float = 0,
    ) -> None:
        self.faults = Faults(loss, duplicate, delay, lag)
        self._hub = Hub(seed, self.faults)

    def transport(self) -> MemoryTransport:
        """Return a transport for a new node of this network, not open yet."""
        return MemoryTransport(self._hub)

    def cluster(self, **options: Any) -> Cluster:
        """Return a `Cluster` on a new node of this network, for ``ActorSystem(cluster=...)``."""
        lease = options.pop("lease", None)
        if lease is not None:
            self._hub.lease_seconds, self._hub.lease_is_set = lease, True
        cluster = Cluster("memory:", **options)
        cluster._make_transport = self.transport
        return cluster

    def partition(self, *groups: set[str]) -> None:
        """Let nodes reach only nodes of their own group. The registry stays with the largest group."""
        self._hub.partition([set(group) for group in groups])

    def heal(self) -> None:
        """End the partition."""
        self._hub.heal()

    def pause(self, node: str) -> None:
        """Freeze a node, like a process after SIGSTOP; messages to it wait."""
        self._hub.paused.add(node)

    def resume(self, node: str) -> None:
        """Resume a paused node."""
        self._hub.resume(node)

    def kill(self, node: str) -> None:
        """Kill a node: it sends and receives nothing more, and its lease expires."""
        for transport in list(self._hub.transports.values()):
            if transport.node.node == node:
                transport.vanish()

    def restart(self, seconds: float) -> None:
        """Take the server down for some seconds; frames in flight are lost."""
        self._hub.restart(seconds)
