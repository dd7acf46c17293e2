"""A registry and a network in memory: for one process, and for tests with faults of every kind."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from anyio.lowlevel import RunVar

from papyra.cluster import Background
from papyra_contrib.cluster._errors import Conflict, TransportError
from papyra_contrib.cluster._transport import Ended, Entry, NodeId, Reset, Synced, no_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra_contrib.cluster._memory import MemoryTransport
    from papyra_contrib.cluster._transport import Change

__all__ = ["Faults", "Hub"]

T = TypeVar("T")

SERVER: Final = None  # the registry in a partition
SEEDED_START_SECONDS: Final = 1_700_000_000.0  # Unix time at which the clock of a seeded run is zero
LATE_SECONDS: Final = (0.0, 3.0)  # after its sender gave up
_last_epoch: Final[RunVar[int]] = RunVar("papyra_memory_epoch", 0)
"""The epoch of the newest network in this run of the event loop: a seed must not depend on earlier runs."""


@dataclass(slots=True)
class Faults:
    """The faults to inject: shares of frames, and seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay: tuple[float, float] = (0.0, 0.0)
    lag: float = 0.0


@dataclass(slots=True)
class _Key:
    value: bytes
    revision: int
    expires: float | None


@dataclass(slots=True)
class _Change:
    at: float
    change: Entry | Ended


class Hub:
    """The one place where the transports of a network meet. All of it runs in one event loop.

    With a seed, nothing depends on the real clock or on chance.
    """

    def __init__(self, seed: int | None, faults: Faults, lease: int | None = None) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable on purpose, guards nothing
        self.faults = faults
        self.lease_seconds = lease or 3
        self.lease_is_set = lease is not None
        self._seeded = seed is not None
        self._names = random.Random(f"names {seed}") if self._seeded else random.SystemRandom()  # noqa: S311 - as above
        self.epoch = 0  # of fences, from the first node on
        self.transports: dict[NodeId, MemoryTransport] = {}
        self.paused: set[str] = set()
        self.away = False
        self._keys: dict[str, _Key] = {}
        self._revision = 0
        self._log: list[_Change] = []
        self._groups: list[set[str]] = []
        self._last_arrival: dict[tuple[NodeId, NodeId], float] = {}
        self._background: Background | None = None

    # -- time

    @property
    def background(self) -> Background:
        """Timers of the event loop that the transports run in."""
        if self._background is None or self._background.closed:
            self._background = Background()
        return self._background

    def unix_time(self) -> float:
        """Return Unix time; a seeded network counts it on the clock of its event loop."""
        return SEEDED_START_SECONDS + self.background.time() if self._seeded else time.time()

    def new_incarnation(self) -> str:
        """Draw an incarnation. Not from ``random``: a join must not change what is lost after it."""
        return f"{self._names.getrandbits(48):012x}"

    def attach(self, node: NodeId, transport: MemoryTransport) -> None:
        """Attach a transport; the first one starts the epoch."""
        if not self.epoch:
            start = SEEDED_START_SECONDS if self._seeded else time.time()
            self.epoch = max(int(start * 1000), _last_epoch.get() + 1)
            _last_epoch.set(self.epoch)
        self.transports[node] = transport

    def detach(self, node: NodeId) -> None:
        """Detach a transport; the last one ends the timers."""
        self.transports.pop(node, None)
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if not self.transports and not self.away and self._background is not None:
            self._background.close()
            self._background = None

    # -- partitions

    def partition(self, groups: list[set[str]]) -> None:
        """Let nodes reach only those of their group. The registry is with the largest group."""
        self._groups = groups

    def heal(self) -> None:
        """End a partition: followers read the registry again."""
        self._groups = []
        for transport in list(self.transports.values()):
            self.resync(transport)

    def _group(self, node: str | None) -> int:
        largest = max(range(len(self._groups)), key=lambda index: len(self._groups[index]), default=-1)
        for index, group in enumerate(self._groups):
            if node in group:
                return index
        return largest  # the registry, and nodes that no group names

    def connected(self, node: str | None, peer: str | None) -> bool:
        """Whether two nodes, or a node and the registry (None), reach each other."""
        if self.away:
            return False
        return not self._groups or self._group(node) == self._group(peer)

    def reaches_registry(self, node: str) -> bool:
        """Whether a request of a node gets to the registry."""
        return node not in self.paused and self.connected(node, SERVER)

    # -- frames

    def carry(self, sender: NodeId, to: NodeId, frame: bytes, ask: int) -> None:
        """Carry a frame to a node, unless a fault hits it."""
        if not self.connected(sender.node, to.node):
            return
        if to not in self.transports:
            if ask:
                self._later(0.0, lambda: self._unreachable(sender, ask))
            return
        faults, chance = self.faults, self.random.random
        if chance() < faults.loss:
            return
        now = self.background.time()
        arrival = max(now + self._delay(), self._last_arrival.get((sender, to), 0.0))
        self._last_arrival[sender, to] = arrival
        self._later(arrival - now, lambda: self._arrive(sender, to, frame))
        if chance() < faults.duplicate:
            self._later(arrival - now + self._delay() * 2, lambda: self._arrive(sender, to, frame))

    def _delay(self) -> float:
        low, high = self.faults.delay
        return self.random.uniform(low, high) if high else 0.0

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        self.background.after(delay, call)

    def _arrive(self, sender: NodeId, to: NodeId, frame: bytes) -> None:
        transport = self.transports.get(to)
        if transport is not None and self.connected(sender.node, to.node):
            transport.arrived(lambda host: host.on_frame(sender, frame))

    def _unreachable(self, sender: NodeId, ask: int) -> None:
        transport = self.transports.get(sender)
        if transport is not None:
            transport.arrived(lambda host: host.on_unreachable(ask))

    # -- the registry

    def write(self, node: str, key: str, request: Callable[[], T]) -> T:
        """Do a write for a node. With ``loss``, it may be lost or late, or its answer may be lost.

        The node does not know the outcome then, as after a time-out of NATS: a `TransportError`.
        """
        if self.random.random() < self.faults.loss:
            fate = self.random.choice(["request lost", "answer lost", "late"])
            if fate == "answer lost":
                with suppress(Conflict, TransportError):  # no answer of any kind gets through
                    request()
            elif fate == "late":
                self._write_later(node, request, self.random.uniform(*LATE_SECONDS))
            raise no_answer("writing", key)
        return request()

    def _write_later(self, node: str, request: Callable[[], object], seconds: float) -> None:
        def write() -> None:
            if not self.reaches_registry(node):
                self._write_later(node, request, 0.1)  # a client keeps it until it is connected again
                return
            with suppress(Conflict):  # nobody waits for the answer
                request()

        self._later(seconds, write)

    def put(self, node: str, key: str, value: bytes, expect: int, ttl: float | None) -> int:
        """Compare and set."""
        self._reach(node, "putting", key)
        stored = self.read(key)
        if (stored.revision if stored is not None else 0) != expect:
            raise Conflict(f"{key!r} is not at revision {expect}")
        self._revision += 1
        expires = None if ttl is None else self.background.time() + ttl
        self._keys[key] = _Key(value, self._revision, expires)
        self._announce(Entry(key, value, self._revision))
        return self._revision

    def end(self, node: str, key: str, expect: int) -> None:
        """Compare and remove."""
        self._reach(node, "ending", key)
        stored = self.read(key)
        if stored is None or stored.revision != expect:
            raise Conflict(f"{key!r} is not at revision {expect}")
        self._revision += 1
        del self._keys[key]
        self._announce(Ended(key, "left", self._revision))

    def get(self, node: str, key: str) -> Entry | None:
        """Read a key."""
        self._reach(node, "reading", key)
        stored = self.read(key)
        return Entry(key, stored.value, stored.revision) if stored is not None else None

    def read(self, key: str) -> _Key | None:
        """Return a key that has not expired."""
        stored = self._keys.get(key)
        if stored is not None and stored.expires is not None and stored.expires <= self.background.time():
            del self._keys[key]  # followers are not notified: they ask for overdue keys
            return None
        return stored

    def _reach(self, node: str, action: str, key: str) -> None:
        if not self.reaches_registry(node):
            raise no_answer(action, key)

    def _announce(self, change: Entry | Ended) -> None:
        now = self.background.time()
        self._log.append(_Change(now, change))
        if len(self._log) > 2_000:
            del self._log[:1_000]
        for transport in list(self.transports.values()):
            if self.connected(transport.node.node, SERVER):
                transport.follow(change, self._lag())
            else:
                transport.missed = True

    def _lag(self) -> float:
        return self.random.uniform(0, self.faults.lag) if self.faults.lag else 0.0

    def resync(self, transport: MemoryTransport) -> None:
        """Hand over the whole registry, as a lagging follower sees it."""
        if not self.connected(transport.node.node, SERVER):
            transport.missed = True
            return
        transport.missed = False
        cut = self.background.time() - self._lag()
        newer = {change.change.key for change in self._log if change.at > cut}
        entries = [
            Entry(key, stored.value, stored.revision)
            for key in list(self._keys)
            if (stored := self.read(key)) is not None and (key not in newer or not self.faults.lag)
        ]
        changes: list[Change] = [Reset(), *entries, Synced()]
        for change in changes:
            transport.follow(change, 0.0)
        for logged in self._log:
            if logged.at > cut and self.faults.lag:
                transport.follow(logged.change, self._lag())

    # -- faults

    def restart(self, seconds: float) -> None:
        """Take the registry and the network down for a while; frames in flight are lost."""
        self.away = True
        self._later(seconds, self._back)

    def _back(self) -> None:
        self.away = False
        for transport in list(self.transports.values()):
            transport.reconnects += 1
            self.resync(transport)
        self._close_if_idle()

    def resume(self, node: str) -> None:
        """Resume a paused node: it gets the calls that were kept for it."""
        self.paused.discard(node)
        for transport in list(self.transports.values()):
            if transport.node.node == node:
                transport.resumed()


HUBS: dict[str, Hub] = {}
"""The hubs of ``memory:`` URLs by name, while a node is attached."""
