"""Asks that wait for a reply from another node."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra._runtime._eventloop import Waiter
    from papyra_contrib.cluster._remote.refs import Target
    from papyra_contrib.cluster._transport import NodeId

__all__ = ["PendingAsk", "PendingAsks"]


class PendingAsk:
    """One ask under way; the first answer counts."""

    __slots__ = ("answered", "error", "number", "peer", "target", "value", "waiter")

    def __init__(self, target: Target, waiter: Waiter) -> None:
        self.target = target
        self.peer: NodeId = target.peer
        self.waiter = waiter
        self.number = 0  # of its frame
        self.answered = False
        self.value: object = None
        self.error: Exception | None = None

    def answer(self, value: object, error: Exception | None = None) -> None:
        """Wake the asker with a value or an error."""
        if self.answered:
            return
        self.answered = True
        self.value = value
        self.error = error
        if not self.waiter.done():
            self.waiter.set_result(None)


class PendingAsks:
    """All asks of one incarnation, by their numbers."""

    def __init__(self) -> None:
        self._asks: dict[int, PendingAsk] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._asks)

    def add(self, ask: PendingAsk) -> int:
        """Note an ask and return its number."""
        self._last += 1
        self._asks[self._last] = ask
        return self._last

    def forget(self, corr: int) -> None:
        """Drop an ask. A late answer is ignored."""
        self._asks.pop(corr, None)

    def find(self, corr: int, peer: NodeId | None = None) -> PendingAsk | None:
        """Return an ask, or None if it went to another node than ``peer``."""
        ask = self._asks.get(corr)
        return ask if ask is not None and (peer is None or ask.peer == peer) else None

    def fail(self, which: Callable[[PendingAsk], bool], error: Callable[[PendingAsk], Exception]) -> None:
        """Fail the asks for which ``which`` returns True."""
        for ask in list(self._asks.values()):
            if which(ask):
                ask.answer(None, error(ask))
