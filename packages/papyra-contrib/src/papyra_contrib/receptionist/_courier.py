"""Carry listings to one subscriber, the newest only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from papyra import Actor, ActorStopped, ActorTerminated
from papyra_contrib.receptionist._key import Listing

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra import ActorRef
    from papyra_contrib.receptionist._key import ServiceKey

__all__ = ["POKE", "Courier"]

POKE: Final = "look again"


class Courier(Actor):
    """Waits for room in the subscriber's mailbox, so that no other code has to.

    At each message, it compares the present actors with those it sent last. Changes that come while it waits
    become one listing: the newest.
    """

    def __init__(
        self,
        key: ServiceKey[Any, Any],
        subscriber: ActorRef[Any, Any],
        find: Callable[[ServiceKey[Any, Any]], tuple[ActorRef[Any, Any], ...]],
        forget: Callable[[ServiceKey[Any, Any], ActorRef[Any, Any]], None],
    ) -> None:
        self._key = key
        self._subscriber = subscriber
        self._find = find
        self._forget = forget
        self._sent: tuple[ActorRef[Any, Any], ...] | None = None

    async def on_start(self) -> None:
        """Stop with the subscriber."""
        self.context.watch(self._subscriber)

    async def on_stop(self) -> None:
        """Let the receptionist forget this courier."""
        self._forget(self._key, self._subscriber)

    async def receive(self, message: object) -> None:
        """Send a listing if something changed since the last one."""
        if type(message) is ActorTerminated:
            self.context.stop_self()
            return
        refs = self._find(self._key)
        if refs == self._sent or not self._subscriber.is_alive():
            return
        before, self._sent = self._sent or (), refs
        added = tuple(ref for ref in refs if ref not in before)
        removed = tuple(ref for ref in before if ref not in refs)
        try:
            await self._subscriber.tell(Listing(self._key, refs, added, removed))
        except ActorStopped:
            self.context.stop_self()  # its ActorTerminated is on the way
