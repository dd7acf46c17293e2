"""Strategies by which a pool or a group picks the actor for a message."""

from __future__ import annotations

import random
from bisect import bisect
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from papyra import ActorRef

__all__ = [
    "Broadcast",
    "ConsistentHash",
    "LeastLoaded",
    "Random",
    "RoundRobin",
    "ScatterGatherFirst",
    "Strategy",
]

FULL_SCAN_ROUTEES = 16


class Strategy(Protocol):
    """Picks one actor for each message."""

    def pick(self, routees: Sequence[ActorRef[Any, Any]], message: object) -> int:
        """Return the index of an actor in ``routees``, which has at least one.

        It is called in the sender's task.
        """
        ...


class RoundRobin:
    """The actors in turn."""

    def __init__(self) -> None:
        self._next = 0

    def pick(self, routees: Sequence[ActorRef[Any, Any]], message: object) -> int:
        """Return the index after the one before."""
        self._next = (self._next + 1) % len(routees)
        return self._next


class Random:
    """A random actor, with equal probability."""

    def pick(self, routees: Sequence[ActorRef[Any, Any]], message: object) -> int:
        """Return a random index."""
        return random.randrange(len(routees))  # noqa: S311 - spreads load, guards nothing


class LeastLoaded:
    """The one with the fewest messages that are queued or being handled.

    Above 16 actors it takes the better of two random ones, which spreads load nearly as well at the cost of
    two looks ("the power of two choices", Mitzenmacher).
    """

    def pick(self, routees: Sequence[ActorRef[Any, Any]], message: object) -> int:
        """Return the index of the actor with the least to do."""
        count = len(routees)
        candidates = range(count) if count <= FULL_SCAN_ROUTEES else random.sample(range(count), 2)
        return min(candidates, key=lambda index: routees[index].pending())


@dataclass
class ConsistentHash:
    """The same actor for the same key, also in another process.

    ``key(message)`` returns a string, bytes or whole number. Each actor has ``virtual_nodes`` places on a
    ring, so that about 1/n of the keys move when the n-th actor joins or leaves, and none when one is
    replaced in its slot (Karger et al., 1997).
    """

    key: Callable[[Any], str | bytes | int]
    virtual_nodes: int = 128
    _rings: dict[int, tuple[list[int], list[int]]] = field(
        default_factory=dict[int, tuple[list[int], list[int]]], init=False, repr=False
    )

    def __post_init__(self) -> None:
        if self.virtual_nodes < 1:
            raise ValueError(f"virtual_nodes must be at least 1, not {self.virtual_nodes!r}")

    def pick(self, routees: Sequence[ActorRef[Any, Any]], message: object) -> int:
        """Return the index at the first place on the ring after the key's."""
        places, slots = self._ring(len(routees))
        key = self.key(message)
        if not isinstance(key, (str, bytes, int)):
            raise TypeError(f"the key of a ConsistentHash is a string, bytes or a whole number, not {key!r}")
        index = bisect(places, _place(key if isinstance(key, bytes) else str(key).encode()))
        return slots[index % len(slots)]

    def _ring(self, size: int) -> tuple[list[int], list[int]]:
        ring = self._rings.get(size)
        if ring is None:
            nodes = sorted(
                (_place(f"{slot}:{node}".encode()), slot)
                for slot in range(size)
                for node in range(self.virtual_nodes)
            )
            self._rings.clear()  # a resized pool seldom gets its former size back
            ring = self._rings[size] = [place for place, _ in nodes], [slot for _, slot in nodes]
        return ring


def _place(key: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big")


@dataclass(frozen=True)
class Broadcast:
    """All of them: a tell goes to each actor. It can't ask; `ScatterGatherFirst` can."""


@dataclass(frozen=True)
class ScatterGatherFirst:
    """All of them: an ask goes to each actor and returns the first reply; a tell goes to each.

    If all fail, an `ExceptionGroup` has their errors; after ``timeout`` seconds it is a `TimeoutError`.
    """

    timeout: float

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {self.timeout!r}")
