"""Numbers of a running system, read on request.

See `ActorSystem.statistics` and `ActorSystem.busy`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from papyra.address import ActorAddress

__all__ = ["BusyActor", "KindStatistics", "SystemStatistics"]


@dataclass(frozen=True, slots=True)
class KindStatistics:
    """All actors of one type, the stopped ones included in what only grows.

    ``alive``, ``restarting`` and ``stopping`` count actors now; an actor is counted in one of them.
    ``spawned``, ``processed`` (messages), ``failures`` and ``restarts`` count since the start of the system
    and never fall. ``waiting`` is the number of messages in their mailboxes, ``fullest`` how full the fullest
    mailbox is (0 to 1; a mailbox without a limit is never full), ``senders`` how many senders wait for room,
    ``longest`` the number of messages in the longest mailbox.
    """

    actor_type: str
    alive: int
    restarting: int
    stopping: int
    spawned: int
    processed: int
    waiting: int
    fullest: float
    senders: int
    failures: int
    restarts: int
    longest: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SystemStatistics:
    """A system in numbers.

    ``loop`` is ``asyncio`` or ``trio``. ``kinds`` has the name of each class: the first 100 that were seen,
    and ``(other)`` for the rest. ``ready`` counts actors that wait for their turn; ``workers`` are
    ``running`` and ``idle``; ``spawned`` counts all actors there ever were. ``dead_letters`` were ``refused``
    (sent to a stopped actor) or ``unhandled`` (left in its mailbox). ``facts`` has ``buffered``, ``store``
    (its name), ``healthy`` and ``dropped_share`` (of the facts of the last one to two minutes; above 0 the
    store is not healthy); ``store`` the counters of the store; ``hooks`` what is counted of each observer.
    """

    system_id: str
    state: str
    loop: str
    kinds: Mapping[str, KindStatistics]
    ready: int
    workers: Mapping[str, int]
    spawned: int
    dead_letters: Mapping[str, int]
    facts: Mapping[str, Any]
    store: Mapping[str, Any]
    hooks: Sequence[Mapping[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BusyActor:
    """An actor whose code runs now.

    ``where`` is the place in its own code, as in ``Importer.receive feed.py:41``; ``awaits`` names what it
    awaits there, empty while it computes. ``seconds`` is for how long at least the same message has been
    handled: the time since `ActorSystem.busy` first saw it, 0.0 if that is now.
    """

    address: ActorAddress
    name: str | None
    actor_type: str
    where: str
    awaits: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data, ready for JSON; the address as text."""
        return {
            "address": str(self.address),
            "name": self.name,
            "actor_type": self.actor_type,
            "where": self.where,
            "awaits": self.awaits,
            "seconds": self.seconds,
        }
