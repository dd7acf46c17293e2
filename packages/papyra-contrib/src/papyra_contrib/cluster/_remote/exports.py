"""Local actors that other nodes may reach, and the nodes that watch them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from papyra import ActorRef
    from papyra.cluster import LocalSystem
    from papyra_contrib.cluster._transport import NodeId

__all__ = ["Exports"]

MAX_REMEMBERED_ENDS: Final = 10_000


class Exports:
    """The reachable actors: those whose references were sent, registered, claimed or asked for.

    The reasons of the last 10,000 ends are kept: a watcher whose notice was lost asks again.
    """

    def __init__(self, local: LocalSystem, terminated: Callable[[NodeId, int, str], None]) -> None:
        self._local = local
        self._terminated = terminated
        self._refs: dict[int, ActorRef[Any, Any]] = {}
        self._watchers: dict[int, dict[NodeId, None]] = {}  # in the order of their watches
        self._reasons: OrderedDict[int, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._refs)

    def add(self, ref: ActorRef[Any, Any]) -> int:
        """Make a local actor reachable and return its number; one that has ended stays unreachable."""
        number = ref.address.actor_id
        if number not in self._refs and self._local.on_end(
            ref, self, lambda reason: self._ended(number, reason)
        ):
            self._refs[number] = ref
        return number

    def get(self, number: int) -> ActorRef[Any, Any] | None:
        """Return a reachable actor."""
        return self._refs.get(number)

    def reason(self, number: int) -> str:
        """Return why an actor has ended; ``unknown`` if it is not among the remembered ones."""
        return self._reasons.get(number, "unknown")

    def watch(self, peer: NodeId, numbers: Iterable[int], *, complete: bool) -> None:
        """Notify ``peer`` of the end of these actors, at once if they have ended.

        If ``complete``, end its watches of all others.
        """
        wanted = dict.fromkeys(numbers)
        if complete:
            for number in [number for number, peers in self._watchers.items() if peer in peers]:
                if number not in wanted:
                    self.unwatch(peer, (number,))
        for number in wanted:
            if number in self._refs:
                self._watchers.setdefault(number, {})[peer] = None
            else:
                self._terminated(peer, number, self.reason(number))

    def unwatch(self, peer: NodeId, numbers: Iterable[int]) -> None:
        """Undo `watch`."""
        for number in numbers:
            peers = self._watchers.get(number, {})
            peers.pop(peer, None)
            if not peers:
                self._watchers.pop(number, None)

    def forget(self, peer: NodeId) -> None:
        """Forget a node that is down."""
        self.unwatch(peer, list(self._watchers))

    def close(self) -> None:
        """Make nothing reachable any more."""
        for ref in self._refs.values():
            self._local.off_end(ref, self)
        self._refs.clear()
        self._watchers.clear()

    def _ended(self, number: int, reason: str) -> None:
        self._refs.pop(number, None)
        self._reasons[number] = reason
        if len(self._reasons) > MAX_REMEMBERED_ENDS:
            self._reasons.popitem(last=False)
        for peer in self._watchers.pop(number, {}):
            self._terminated(peer, number, reason)
