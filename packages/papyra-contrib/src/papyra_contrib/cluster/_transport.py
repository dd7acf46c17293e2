"""The interface of an engine: bytes in, bytes out, and a small registry.

An engine is a `Transport`; `papyra_contrib.cluster.testing.TransportConformance` has a test for each promise.
"""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias

from papyra_contrib.cluster._errors import ClusterUnavailable, TransportError

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "Change",
    "Ended",
    "Entry",
    "Host",
    "Lease",
    "NodeId",
    "Reset",
    "Synced",
    "Transport",
    "beat_seconds",
]


@dataclass(frozen=True, slots=True, order=True)
class NodeId:
    """A node under one incarnation; ``str`` is ``node@incarnation``."""

    node: str
    incarnation: str

    def __str__(self) -> str:
        return f"{self.node}@{self.incarnation}"

    def __hash__(self) -> int:
        return hash(self.incarnation)  # random, and its hash is kept: each message to a node looks some up


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of the registry was put. Revisions only grow, over all keys."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A key of the registry was ended: ``left`` on purpose, ``expired`` with its lease.

    An ``expired`` key may also just vanish: followers ask for what is overdue. ``revision`` is that of the
    end, 0 if the engine has none.
    """

    key: str
    reason: str
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Reset:
    """Changes may have been missed: all entries follow, then `Synced`."""


@dataclass(frozen=True, slots=True)
class Synced:
    """All entries were handed over since the `Reset`.

    A key that is missing counts as ended only if `Transport.get` confirms it: the entries may come from a
    replica that lags.
    """


Change: TypeAlias = "Reset | Entry | Ended | Synced"


class Host(Protocol):
    """The object that a transport calls, in the program's event loop, one call at a time. It never raises."""

    def on_frame(self, peer: NodeId, frame: bytes) -> None:
        """Take a message from ``peer``: the engine vouches for the sender's name, not for the bytes."""
        ...

    def on_unreachable(self, ask: int) -> None:
        """Note that the message with this ask was not delivered: nobody listens there."""
        ...

    def on_change(self, change: Change) -> None:
        """Take a change of the registry, in the order of revisions."""
        ...

    def on_lost(self, reason: str) -> None:
        """Let go: the lease ends within the margin, and this node must not act as a member any more."""
        ...


def beat_seconds(ttl: float) -> float:
    """Return after how many seconds to renew a lease of ``ttl`` seconds: at most one.

    The 12 s with replicas must outlast a change of the leader, which takes up to 7 s. With beats of a third,
    only 6 s were certain.
    """
    return min(1.0, ttl / 3)


class Lease(ABC):
    """The membership of this node. It renews by itself."""

    ttl: float
    """Seconds that the registry keeps the key after a renewal."""

    @abstractmethod
    def valid(self) -> bool:
        """Whether the node is a member beyond doubt: local, cheap and pessimistic by the margin."""

    @abstractmethod
    def seconds_left(self) -> float:
        """Return for how many seconds `valid` stays true without another renewal."""


class Transport(ABC):
    """An engine. One object serves one incarnation: it is opened once and closed once."""

    name: ClassVar[str] = ""
    papyra_api: ClassVar[str] = "1.1"

    max_frame: int = 1_000_000
    """The largest message in bytes, known once open."""

    lease_seconds: int = 3
    """Seconds of a lease in this cluster, known once open."""

    epoch: int = 0
    """When the registry was made, in Unix milliseconds, known once open."""

    reconnects: int = 0

    last_error: Exception | None = None
    """The last error of the connection to the registry, or None."""

    servers: str = ""
    """The addresses of the registry, without a password: errors name them."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str) -> Self:
        """Read the URL; nothing is opened. A malformed one is a `BackendURLError`."""

    def configure(self, *, lease: int | None, stall: float) -> None:
        """Take the options of `Cluster`; ``lease`` None means the lease that the cluster has.

        Called once, before `open`.
        """
        return

    def new_incarnation(self) -> str:
        """Draw the 12 hexadecimal digits of an incarnation; a seeded engine draws from its seed."""
        return secrets.token_hex(6)

    def unix_time(self) -> float:
        """Return the time of a join, in seconds. An engine for seeded tests has a clock of its own."""
        return time.time()

    @abstractmethod
    async def open(self, node: NodeId, host: Host) -> None:
        """Connect, and hand over the registry: `Reset`, every entry, `Synced`, then each change."""

    @abstractmethod
    def send(self, peer: NodeId, frame: bytes, *, ask: int = 0) -> None:
        """Send ``frame``, in order for each peer, without waiting.

        ``ask`` comes back if nobody listens there.
        """

    @abstractmethod
    def publish(self, frame: bytes) -> None:
        """Send ``frame`` to every other node. This node may or may not get it as well."""

    def has_room(self) -> bool:
        """Whether the outbox is below its bound."""
        return True

    async def room(self) -> None:
        """Return when the outbox is below its bound."""
        return

    @abstractmethod
    async def put(self, key: str, value: bytes, *, expect: int) -> int:
        """Set ``key`` if it is at the revision ``expect`` (0: absent) and return the new revision.

        Raises `Conflict`, or `TransportError` if the outcome is unknown.
        """

    @abstractmethod
    async def end(self, key: str, *, expect: int) -> None:
        """Remove ``key`` if it is at the revision ``expect``. Raises as `put` does."""

    @abstractmethod
    async def get(self, key: str) -> Entry | None:
        """Return the entry that the leader has; `TransportError` if it does not answer."""

    @abstractmethod
    async def hold(self, key: str, value: bytes, ttl: int) -> Lease:
        """Claim ``key`` for ``ttl`` seconds and keep renewing it; `Conflict` if another node has it.

        A key that already has this ``value`` is from an attempt whose answer was lost, and is taken over.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Send what is queued, end the lease, and leave no task, thread or socket. Closing twice is fine."""


def not_open(transport: Transport, seconds: float) -> ClusterUnavailable:
    """Make the error of a transport that was not open in time."""
    last_error = transport.last_error
    why = f" ({type(last_error).__name__}: {last_error})" if last_error is not None else ""
    return ClusterUnavailable(
        f"the registry of the cluster did not answer within {seconds:g} s{why}; find out whether its server runs at "
        f"{transport.servers or 'the address in the URL'}"
    )


def no_answer(action: str, key: str) -> TransportError:
    """Make the error of a request whose outcome is unknown."""
    return TransportError(
        f"the registry did not answer: {action} {key!r} may have been done or not; read the key"
    )
