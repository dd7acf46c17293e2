"""The common part of pools and groups: they pick an actor in the sender's task, without a hop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic

import anyio

from papyra import ActorStopped, PapyraError
from papyra.typing import M, R
from papyra_contrib.patterns import first_of
from papyra_contrib.routing._strategies import Broadcast, ScatterGatherFirst

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from papyra import ActorRef, Request
    from papyra_contrib.routing._strategies import Strategy

__all__ = ["NoRoutee", "Router"]


class NoRoutee(PapyraError, LookupError):
    """There is no living actor to route to."""


class Router(ABC, Generic[M, R]):
    """Sends each message to the actors that a strategy picks."""

    def __init__(self, strategy: Strategy | Broadcast | ScatterGatherFirst) -> None:
        self._strategy = strategy

    @property
    def routees(self) -> tuple[ActorRef[M, R], ...]:
        """The actors that get messages now."""
        return tuple(ref for ref in self._slots() if ref.is_alive())

    @abstractmethod
    def _slots(self) -> Sequence[ActorRef[M, R]]:
        """Return the actors to pick from; some may have stopped."""

    @abstractmethod
    def _nobody(self) -> ActorRef[M, R]:
        """Return the actor that takes a message while no actor of the slots lives, or raise `NoRoutee`."""

    async def tell(self, message: M) -> None:
        """Send to one actor, or to all with `Broadcast` or `ScatterGatherFirst`.

        Waits as `ActorRef.tell` does.
        """
        if isinstance(self._strategy, Broadcast | ScatterGatherFirst):
            async with anyio.create_task_group() as group:  # a full mailbox does not delay the others
                for ref in self.routees:
                    group.start_soon(_tell_if_alive, ref, message)
        else:
            await self._pick(message).tell(message)

    def tell_nowait(self, message: M) -> None:
        """Send as `tell`, or raise `MailboxFull` at once."""
        if isinstance(self._strategy, Broadcast | ScatterGatherFirst):
            for ref in self.routees:
                ref.tell_nowait(message)
        else:
            self._pick(message).tell_nowait(message)

    def ask(self, message: M, *, timeout: float | None = None) -> Coroutine[Any, Any, R]:
        """Ask one actor, exactly as `ActorRef.ask` does; with `ScatterGatherFirst` all of them."""
        if isinstance(self._strategy, ScatterGatherFirst):
            seconds = self._strategy.timeout if timeout is None else timeout
            return first_of(*(ref.request(message) for ref in self.routees), timeout=seconds)
        return self._pick(message).ask(message, timeout=timeout)

    def request(self, message: M, *, timeout: float | None = None) -> Request[R]:
        """Return an unsent question to the actor that is picked now."""
        return self._pick(message).request(message, timeout=timeout)

    def _pick(self, message: M) -> ActorRef[M, R]:
        if isinstance(self._strategy, Broadcast | ScatterGatherFirst):
            raise TypeError(
                f"{type(self._strategy).__name__} has no single actor to ask. Use tell(), or a pool with another strategy."
            )
        slots = self._slots()
        if not slots:
            return self._nobody()
        first = self._strategy.pick(slots, message)
        ref = slots[first]
        if ref.is_alive():
            return ref
        for offset in range(1, len(slots)):
            ref = slots[(first + offset) % len(slots)]
            if ref.is_alive():
                return ref
        return self._nobody()


async def _tell_if_alive(ref: ActorRef[M, Any], message: M) -> None:
    with suppress(ActorStopped):  # it stopped while this waited for room: the others still get the message
        await ref.tell(message)
