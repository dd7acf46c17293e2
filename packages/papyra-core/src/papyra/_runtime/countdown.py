"""The countdowns to the next send that an instrument is shown.

`ActorRef.tell` counts sends down anyhow, to yield to the event loop after each `SEND_BUDGET`. While an
instrument wants to see sends, the same counter stops at whichever comes first, the next yield or the next
send to show. So the fast path of ``tell`` is the same with and without instruments.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from papyra._runtime.envelope import Envelope
from papyra._runtime.runtime import SEND_BUDGET

if TYPE_CHECKING:
    from papyra._runtime.attached_instrument import Attached, Marks
    from papyra._runtime.cell import Cell
    from papyra._runtime.runtime import Runtime

__all__ = ["Countdown"]


class Countdown:
    """Shows sends to the instruments of a system that want to see some. It is made anew when those change."""

    __slots__ = (
        "_asks_gap",
        "_asks_left",
        "_attached",
        "_budget",
        "_only",
        "_rt",
        "_tells_gap",
        "_tells_left",
        "stretch",
    )

    def __init__(self, rt: Runtime, attached: list[Attached]) -> None:
        self._rt = rt
        self._attached = attached
        self._only = attached[0] if len(attached) == 1 else None
        for each in attached:
            each.left = [1, 1]
        self._budget = 1  # sends until the next yield, as of the last stop of the counter
        self._tells_left = self._tells_gap = 1
        self._asks_left = self._asks_gap = 1
        self.stretch = 0  # sends from one stop of the counter to the next
        rt.allow_sends(0)

    def tell(self, cell: Cell, item: Any) -> Any:
        """Handle a stop of the counter: show the send if it is due, and count on. Return the item to send."""
        only = self._only
        if only is not None and self.stretch == 0 and self._budget > 1:
            # An instrument that wants to see every send, as one that traces: it marks few of them.
            mark, left = only.show(cell, item.message if type(item) is Envelope else item, False)
            if mark is None and left == 1:
                self._budget -= 1
                return item
            shown = mark, left
        else:
            shown = None
        spent = self.stretch + 1
        budget = self._budget - spent
        left = self._tells_left - spent
        if left <= 0:
            message = item.message if type(item) is Envelope else item
            if only is not None:  # `_show`, without a call
                mark, left = shown or only.show(cell, message, False)
                marks: Marks | None = None if mark is None else ((only, mark),)
            else:
                marks, left = self._show(cell, message, False, self._tells_gap)
                self._tells_gap = left
            if marks is not None:
                if type(item) is not Envelope:
                    item = Envelope(item, expects_reply=False)
                item.marks = marks
        if budget <= 0:
            budget = SEND_BUDGET
            self._rt.must_yield = True
        self._budget, self._tells_left = budget, left
        self.stretch = min(budget, left) - 1
        if self.stretch:  # else the next one stops as well
            self._rt.allow_sends(self.stretch)
        return item

    def ask(self, cell: Cell, envelope: Envelope) -> bool:
        """Count an ask, and show it if it is due. Return whether it was marked."""
        self._asks_left -= 1
        if self._asks_left > 0:
            return False
        envelope.marks, self._asks_left = self._show(cell, envelope.message, True, self._asks_gap)
        self._asks_gap = self._asks_left
        return envelope.marks is not None

    def _show(self, cell: Cell, message: object, asks: bool, passed: int) -> tuple[Marks | None, int]:
        """Show a send to the instruments whose turn it is.

        Return their marks, and how many sends to pass over.
        """
        only = self._only
        if only is not None:
            mark, gap = only.show(cell, message, asks)
            return None if mark is None else ((only, mark),), gap
        marks: Marks = ()
        nearest = sys.maxsize
        for each in self._attached:
            each.left[asks] -= passed
            if each.left[asks] <= 0:
                mark, each.left[asks] = each.show(cell, message, asks)
                if mark is not None:
                    marks = (*marks, (each, mark))
            nearest = min(nearest, each.left[asks])
        return marks or None, nearest
