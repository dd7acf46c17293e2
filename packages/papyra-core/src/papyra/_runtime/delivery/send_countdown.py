"""The countdowns to the next send that an instrument is shown.

`ActorRef.tell` counts sends down in any case, to yield to the event loop after each `SEND_BUDGET`. While an
instrument wants to see sends, the same counter stops at the next yield or at the next send to show, whichever
comes first. So the fast path of ``tell`` is the same with and without instruments. Asks have a counter of
their own, which the caller of `Countdown.ask` counts down.
"""

from __future__ import annotations

import sys
from operator import index
from typing import TYPE_CHECKING, Any

from papyra._runtime.delivery.sending import check_send
from papyra._runtime.envelope import Envelope
from papyra._runtime.runtime import SEND_BUDGET

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell
    from papyra._runtime.observation.attached_instrument import Attached, Marks
    from papyra._runtime.runtime import Runtime

__all__ = ["Countdown"]


class Countdown:
    """Shows sends to the instruments of a system. A new one is made when the instruments change.

    An instrument that traces wants every send, although it marks few of them. Such a send stops the counter,
    but takes a short path until the yield or another instrument is due.
    """

    __slots__ = (
        "_asks_every",
        "_asks_quick",
        "_asks_stretch",
        "_attached",
        "_budget",
        "_every",
        "_owner",
        "_quick",
        "_rt",
        "_stretch",
        "asks_left",
    )

    def __init__(self, rt: Runtime, attached: list[Attached]) -> None:
        self._rt = rt
        self._owner = rt.owner
        self._attached = attached
        for instrument in attached:
            instrument.left = [1, 1]
        self._budget = 1  # tells until the next yield, as of the last stop
        self._stretch = 0  # tells from the last stop to the next, not counting either
        self._quick = 0  # those of them that `_every` has yet to be shown; the others are not seen here
        self._every = attached[0]
        self.asks_left = 0  # asks that pass before one has to stop
        self._asks_stretch = self._asks_quick = 0  # as of tells
        self._asks_every = attached[0]
        rt.allow_sends(0)

    def tell(self, cell: Cell, item: Any) -> Any:
        """Handle a stop of the counter: show the send if it is due, and count on. Return the item to send."""
        if not self._owner._is_owned():
            check_send(self._rt)  # which raises
        quick = self._quick
        marks: Marks = ()
        if quick:
            every = self._every
            try:
                mark, left = every.send(cell, item.message if type(item) is Envelope else item, False)
                if type(left) is not int:
                    left = index(left)
            except BaseException as error:  # noqa: BLE001 - as in `_show`
                mark, left = every.send_failed(error)
            if mark is None and left <= 1:
                self._quick = quick - 1
                return item
            marks = _note_next(every, False, mark, left, self._stretch - quick + 1)
        passed = self._stretch - quick + 1
        message = item.message if type(item) is Envelope else item
        marks, every, nearest, second = self._show(cell, message, False, passed, marks)
        if marks:
            if type(item) is not Envelope:
                item = Envelope(item, expects_reply=False)
            item.marks = marks
        budget = self._budget - passed
        if budget <= 0:
            budget = SEND_BUDGET
            self._rt.must_yield = True
        self._budget = budget
        if nearest == 1:
            self._every = every
            self._stretch = self._quick = min(budget, second) - 1
        else:
            self._stretch, self._quick = min(budget, nearest) - 1, 0
            self._rt.allow_sends(self._stretch)
        return item

    def ask(self, cell: Cell, envelope: Envelope) -> bool:
        """Show an ask for which `asks_left` is 0, if it is due, and count on. Return whether it is marked."""
        quick = self._asks_quick
        marks: Marks = ()
        if quick:
            every = self._asks_every
            try:
                mark, left = every.send(cell, envelope.message, True)
                if type(left) is not int:
                    left = index(left)
            except BaseException as error:  # noqa: BLE001 - as in `_show`
                mark, left = every.send_failed(error)
            if mark is None and left <= 1:
                self._asks_quick = quick - 1
                return False
            marks = _note_next(every, True, mark, left, self._asks_stretch - quick + 1)
        passed = self._asks_stretch - quick + 1
        marks, every, nearest, second = self._show(cell, envelope.message, True, passed, marks)
        if nearest == 1:
            self._asks_every = every
            self._asks_stretch = self._asks_quick = second - 1
        else:
            self._asks_stretch, self._asks_quick = nearest - 1, 0
            self.asks_left = self._asks_stretch
        envelope.marks = marks or None
        return bool(marks)

    def _show(
        self, cell: Cell, message: object, asks: bool, passed: int, marks: Marks
    ) -> tuple[Marks, Attached, int, int]:
        """Show a send to the instruments whose turn it is, and add their marks.

        Return all marks, the instrument whose turn is next, the number of sends until then, and the number of
        sends until the turn of another one.
        """
        first = self._attached[0]
        nearest = second = sys.maxsize
        for instrument in self._attached:
            left = instrument.left[asks] - passed
            if left <= 0:
                try:
                    mark, left = instrument.send(cell, message, asks)
                    left = max(index(left), 1)  # `index` raises for anything but a number of sends
                except BaseException as error:  # noqa: BLE001 - an instrument's error, SystemExit too, must not stop a sender
                    mark, left = instrument.send_failed(error)
                if mark is not None:
                    marks = (*marks, (instrument, mark))
            instrument.left[asks] = left
            if left < nearest:
                first, nearest, second = instrument, left, nearest
            elif left < second:
                second = left
        return marks, first, nearest, second


def _note_next(instrument: Attached, asks: bool, mark: object, gap: int, passed: int) -> Marks:
    """Note when an instrument that was shown a send wants the next one. Return its marks."""
    instrument.left[asks] = max(gap, 1) + passed  # `Countdown._show` takes off what has passed
    return () if mark is None else ((instrument, mark),)
