"""The engine: a keeper's thread for the registry, and a connection for frames in the program's loop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread

from papyra.cluster import Background
from papyra.exceptions import PapyraError
from papyra_contrib.cluster._errors import ClusterUnavailable
from papyra_contrib.cluster._transport import Change, Entry, Host, Lease, NodeId, Transport
from papyra_contrib.cluster.nats._client import ConnectionMonitor, connect
from papyra_contrib.cluster.nats._frames import FrameChannel, Outbox
from papyra_contrib.cluster.nats._keeper import Keeper, KeeperPlan
from papyra_contrib.cluster.nats._lease_clock import lease_clock
from papyra_contrib.cluster.nats._loop_bridge import LoopBridge
from papyra_contrib.cluster.nats._url import NatsURL

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Self

    from papyra_contrib.cluster.nats._bucket import Bucket
    from papyra_contrib.cluster.nats._client import Client

__all__ = ["NatsTransport"]

_logger = logging.getLogger("papyra")

ROOM_SECONDS: Final = 0.005
FINISH_SECONDS: Final = 1.0
_exposed_hosts: set[tuple[str, ...]] = set()


class NatsTransport(Transport):
    """Nodes over a NATS server of version 2.11 or newer with JetStream."""

    name = "nats"

    def __init__(self, url: NatsURL) -> None:
        self._url = url
        self.servers = ", ".join(url.hosts)
        self._lease_wanted = url.lease
        self._stall = 30.0
        self._host: Host | None = None
        self._keeper: Keeper | None = None
        self._outbox: Outbox | None = None
        self._client: Client | None = None
        self._channel: FrameChannel | None = None
        self._background: Background | None = None
        self._closed: anyio.Event | None = None

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read ``nats://[user[:password]@]host:port[,host:port]/CLUSTER?...``."""
        return cls(NatsURL.parse(url))

    def configure(self, *, lease: int | None, stall: float) -> None:
        """Take the lease and the stall of the cluster."""
        if lease is not None and self._url.lease not in (None, lease):
            raise ValueError(f"lease is {lease} s here, and {self._url.lease} s in the URL; give one")
        self._lease_wanted = lease if lease is not None else self._url.lease
        self._stall = stall

    @property
    def reconnects(self) -> int:  # type: ignore[override]  # a field of `Transport`, counted by the keeper here
        """How often the connection to the registry came back."""
        return self._keeper.reconnects if self._keeper is not None else 0

    @property
    def last_error(self) -> Exception | None:  # type: ignore[override]  # a field of `Transport`, kept by the keeper
        """The last error of the connection to the registry, or None."""
        return self._keeper.monitor.last_error if self._keeper is not None else None

    async def open(self, node: NodeId, host: Host) -> None:
        """Connect: the registry in a thread, frames in this loop on asyncio and in the thread on trio."""
        self._warn_if_exposed()
        self._host = host
        self._background = Background()
        bridge = LoopBridge()
        self._outbox = Outbox(self._url.cluster, node)
        plan = KeeperPlan(
            self._url,
            node,
            self._lease_wanted,
            self._stall,
            bridge,
            self._changed,
            self._lost,
            self._got,
            self._unreachable,
            self._outbox if bridge.is_trio else None,
        )
        self._keeper = keeper = Keeper(plan)
        ready = self._background.waiter()
        failures: list[Exception] = []

        def on_ready(error: Exception | None) -> None:
            if error is not None:
                failures.append(error)
            if not ready.done():
                ready.set_result(None)

        keeper.start(on_ready)
        await ready
        if failures:
            raise _explained(failures[0])
        if not bridge.is_trio:
            await self._open_frames(node, self._outbox)
        bucket = self._bucket()
        self.lease_seconds, self.epoch = bucket.lease_seconds, bucket.epoch
        self.max_frame = keeper.max_payload

    async def _open_frames(self, node: NodeId, outbox: Outbox) -> None:
        monitor = ConnectionMonitor(self._on_reconnected, self._on_disconnected)
        self._client = await connect(self._url, node.node, "frames", monitor)
        self._channel = FrameChannel(
            self._client, self._url.cluster, node, outbox, self._got, self._unreachable
        )
        await self._channel.start()
        outbox.wake = self._channel.wake

    def _warn_if_exposed(self) -> None:
        if self._url.is_exposed and self._url.hosts not in _exposed_hosts:
            _exposed_hosts.add(self._url.hosts)
            _logger.warning(
                "messages to %s are not encrypted; give tls_ca= in the URL of the cluster",
                ", ".join(self._url.hosts),
            )

    async def _on_disconnected(self) -> None:
        if self._keeper is not None:
            self._keeper.frames_gone_since = lease_clock()

    async def _on_reconnected(self) -> None:
        if self._keeper is not None:
            self._keeper.frames_gone_since = None

    # -- called by the keeper and the channel, in this loop

    def _changed(self, change: Change) -> None:
        if self._host is not None:
            self._host.on_change(change)

    def _lost(self, reason: str) -> None:
        if self._host is not None:
            self._host.on_lost(reason)

    def _got(self, peer: NodeId, frame: bytes) -> None:
        if self._host is not None:
            self._host.on_frame(peer, frame)

    def _unreachable(self, ask: int) -> None:
        if self._host is not None:
            self._host.on_unreachable(ask)

    # -- frames

    def send(self, peer: NodeId, frame: bytes, *, ask: int = 0) -> None:
        """Add a frame to the outbox."""
        if self._outbox is not None:
            self._outbox.send(peer, frame, ask)

    def publish(self, frame: bytes) -> None:
        """Add a frame for all to the outbox."""
        if self._outbox is not None:
            self._outbox.publish(frame)

    def has_room(self) -> bool:
        """Whether less than 8 MiB wait."""
        return self._outbox is None or self._outbox.has_room()

    async def room(self) -> None:
        """Wait until less than 8 MiB wait."""
        while not self.has_room():  # noqa: ASYNC110 - the other side may be another thread's deque
            await anyio.sleep(ROOM_SECONDS)

    # -- the registry

    def _bucket(self) -> Bucket:
        bucket = self._keeper.bucket if self._keeper is not None else None
        if bucket is None:
            raise ClusterUnavailable("the connection to the NATS server is not open")
        return bucket

    async def _in_keeper(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        if self._keeper is None or self._background is None:
            raise ClusterUnavailable("the connection to the NATS server is not open")
        waiter = self._background.waiter()
        outcome: list[Any] = []

        def done(value: Any, error: Any) -> None:
            outcome[:] = [value, error]
            if not waiter.done():
                waiter.set_result(None)

        self._keeper.run(make, done)
        await waiter
        value, error = outcome
        if error is not None:
            raise error
        return value

    async def put(self, key: str, value: bytes, *, expect: int) -> int:
        """Compare and set."""
        revision: int = await self._in_keeper(lambda: self._bucket().put(key, value, expect))
        return revision

    async def end(self, key: str, *, expect: int) -> None:
        """Compare and end."""
        await self._in_keeper(lambda: self._bucket().end(key, expect))

    async def get(self, key: str) -> Entry | None:
        """Read a key from the leader."""
        entry: Entry | None = await self._in_keeper(lambda: self._bucket().get(key))
        return entry

    async def hold(self, key: str, value: bytes, ttl: int) -> Lease:
        """Claim the lease."""
        keeper = self._keeper
        assert keeper is not None  # noqa: S101 - it is open
        lease: Lease = await self._in_keeper(lambda: keeper.hold(key, value, ttl))
        return lease

    # -- the end

    async def aclose(self) -> None:
        """Send the queued frames, then end the lease, the connections and the thread."""
        if self._closed is not None:
            await self._closed.wait()
            return
        self._closed = anyio.Event()
        self._host = None
        try:
            if self._channel is not None:
                await self._channel.finish(FINISH_SECONDS)
            if self._client is not None:
                await self._client.close()
            if self._keeper is not None:
                self._keeper.stop()
                await anyio.to_thread.run_sync(self._keeper.join)
        finally:
            if self._background is not None:
                self._background.close()
            self._outbox = None  # nobody waits for room in it any more
            self._closed.set()


def _explained(error: Exception) -> Exception:
    if isinstance(error, PapyraError | ValueError):
        return error
    unavailable = ClusterUnavailable(f"can't connect to the NATS server: {type(error).__name__}: {error}")
    unavailable.__cause__ = error
    return unavailable
