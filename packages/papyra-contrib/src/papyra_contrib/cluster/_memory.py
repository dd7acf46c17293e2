"""The engine for one process: ``memory:shop``."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from papyra.exceptions import BackendURLError
from papyra.persistence.url import BackendURL
from papyra_contrib.cluster._errors import Conflict, TransportError
from papyra_contrib.cluster._memory_hub import HUBS, Faults, Hub
from papyra_contrib.cluster._transport import (
    Change,
    Ended,
    Entry,
    Host,
    Lease,
    NodeId,
    Reset,
    Synced,
    Transport,
    beat_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

__all__ = ["MemoryTransport"]

T = TypeVar("T")

REPEAT_SECONDS: Final = 0.1
ANSWER_SECONDS: Final = 1.0  # how long a request waits for an answer that is lost


class MemoryTransport(Transport):
    """Nodes of one process and one event loop, for programs that need no server, and for tests."""

    name = "memory"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._own_name: str | None = None
        self._host: Host | None = None
        self._lease: _MemoryLease | None = None
        self._kept: deque[Callable[[Host], None]] = deque()
        self.node = NodeId("", "")
        self.missed = False
        self._follow_at = 0.0

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read ``memory:CLUSTER``; the name may be left out."""
        parsed = BackendURL.parse(url)
        parsed.convert({})
        if "/" in parsed.path:
            raise BackendURLError(f"{url!r} names no cluster; write 'memory:CLUSTER', as in 'memory:shop'")
        transport = cls(HUBS.get(parsed.path) or Hub(None, Faults()))
        transport._own_name = parsed.path
        return transport

    def configure(self, *, lease: int | None, stall: float) -> None:
        """Take the lease; the first node of a cluster decides it."""
        if lease is not None:
            if self._hub.lease_is_set and lease != self._hub.lease_seconds:
                raise ValueError(
                    f"lease is {lease} s here, and {self._hub.lease_seconds} s in the cluster; give the same, or none"
                )
            self._wanted_lease = lease

    _wanted_lease: int | None = None

    def new_incarnation(self) -> str:
        """Draw from the network's seed, if it has one."""
        return self._hub.new_incarnation()

    def unix_time(self) -> float:
        """Return the time of the network."""
        return self._hub.unix_time()

    async def open(self, node: NodeId, host: Host) -> None:
        """Join the network."""
        if self._own_name is not None:
            self._hub = HUBS.setdefault(self._own_name, self._hub)
        if self._wanted_lease is not None and not self._hub.lease_is_set:
            self._hub.lease_seconds, self._hub.lease_is_set = self._wanted_lease, True
        self.node, self._host = node, host
        self._hub.attach(node, self)
        self.lease_seconds, self.epoch = self._hub.lease_seconds, self._hub.epoch
        self._hub.resync(self)

    def send(self, peer: NodeId, frame: bytes, *, ask: int = 0) -> None:
        """Give a frame to the network."""
        if self._host is not None and self.node.node not in self._hub.paused:
            self._hub.carry(self.node, peer, frame, ask)

    def publish(self, frame: bytes) -> None:
        """Give a frame for every other node to the network."""
        for peer in list(self._hub.transports):
            if peer != self.node:
                self.send(peer, frame)

    async def put(self, key: str, value: bytes, *, expect: int) -> int:
        """Compare and set."""
        node = self.node.node
        return await self._write(key, lambda: self._hub.put(node, key, value, expect, None))

    async def end(self, key: str, *, expect: int) -> None:
        """Compare and remove."""
        node = self.node.node
        await self._write(key, lambda: self._hub.end(node, key, expect))

    async def get(self, key: str) -> Entry | None:
        """Read a key."""
        return self._hub.get(self.node.node, key)

    async def hold(self, key: str, value: bytes, ttl: int) -> Lease:
        """Claim a key and keep it."""
        hub, node = self._hub, self.node.node
        entry = hub.get(node, key)
        former = entry.revision if entry is not None and entry.value == value else 0
        sent = hub.background.time()
        revision = await self._write(key, lambda: hub.put(node, key, value, former, ttl))
        self._lease = _MemoryLease(hub, self, key, value, ttl, revision, sent)
        return self._lease

    async def _write(self, key: str, request: Callable[[], T]) -> T:
        try:
            return self._hub.write(self.node.node, key, request)
        except TransportError:
            if self._hub.faults.loss and self._hub.reaches_registry(self.node.node):
                await anyio.sleep(ANSWER_SECONDS)
            raise

    async def aclose(self) -> None:
        """Leave the network."""
        host, self._host = self._host, None
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()
        if host is not None:
            self._hub.detach(self.node)
            if not self._hub.transports and self._own_name is not None:
                HUBS.pop(self._own_name, None)

    def vanish(self) -> None:
        """Leave without notice, as a killed process does."""
        self._host = None
        if self._lease is not None:
            self._lease.forget()
            self._lease = None
        self._hub.detach(self.node)

    # -- called by the hub

    def arrived(self, call: Callable[[Host], None]) -> None:
        """Call the host, now or once the node is resumed."""
        if self._host is None:
            return
        if self.node.node in self._hub.paused:
            self._kept.append(call)
        else:
            call(self._host)

    def follow(self, change: Change, delay: float) -> None:
        """Hand over a change of the registry, in order."""
        background = self._hub.background
        now = background.time()
        self._follow_at = max(now + delay, self._follow_at)
        background.after(
            self._follow_at - now, lambda: self.arrived(lambda host: self._changed(host, change))
        )

    def _changed(self, host: Host, change: Change) -> None:
        if isinstance(change, Reset | Synced | Entry | Ended):
            host.on_change(change)

    def resumed(self) -> None:
        """Make the calls that were kept while the node was paused, then check the lease."""
        while self._kept and self._host is not None:
            self._kept.popleft()(self._host)
        if self._lease is not None:
            self._lease.check()

    def lost(self, reason: str) -> None:
        """Tell the host that its lease is lost."""
        self._lease = None
        if self._host is not None:
            self._host.on_lost(reason)


class _MemoryLease(Lease):
    """Renews every third of its time; ends a sixth of it before the registry lets it go."""

    def __init__(
        self,
        hub: Hub,
        transport: MemoryTransport,
        key: str,
        value: bytes,
        ttl: int,
        revision: int,
        sent: float,
    ) -> None:
        self.ttl = float(ttl)
        self._hub = hub
        self._transport = transport
        self._key = key
        self._value = value
        self._node = transport.node.node
        self._over = False
        self._timer: Any = None
        self._revision = revision
        self._held_since(sent)
        self._wait()

    def _held_since(self, sent: float) -> None:
        self._until = sent + self.ttl * 5 / 6
        self._next = sent + beat_seconds(self.ttl)

    def valid(self) -> bool:
        """Whether the last renewal still holds."""
        return not self._over and self._hub.background.time() < self._until

    def seconds_left(self) -> float:
        """Return for how many seconds `valid` stays true without another renewal."""
        return max(0.0, self._until - self._hub.background.time())

    def _wait(self) -> None:
        now = self._hub.background.time()
        self._timer = self._hub.background.after(max(0.0, min(self._next, self._until) - now), self.check)

    def check(self) -> None:
        """Renew, or let go. A paused node does neither."""
        if self._over or self._node in self._hub.paused:
            return
        if self._timer is not None:
            self._timer.cancel()
        if not self.valid():
            self._over = True
            self._transport.lost("expired")
            return
        sent = self._hub.background.time()
        hub, key, value, expect = self._hub, self._key, self._value, self._revision
        try:
            self._revision = hub.write(
                self._node, key, lambda: hub.put(self._node, key, value, expect, self.ttl)
            )
        except Conflict:
            stored = hub.read(key)
            if stored is None or stored.value != value:
                self._over = True
                self._transport.lost("another node has the key of the lease")
                return
            self._revision, self._next = stored.revision, sent  # the answer of a renewal was lost
        except TransportError:
            self._next = sent + REPEAT_SECONDS
        else:
            self._held_since(sent)
        self._wait()

    def forget(self) -> None:
        """Stop renewing: the key expires in the registry."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()

    def release(self) -> None:
        """End the key."""
        over, self._over = self._over, True
        if self._timer is not None:
            self._timer.cancel()
        if not over:
            with suppress(Conflict, TransportError):  # the key has expired, or will
                self._hub.end(self._node, self._key, self._revision)
