"""An instrument that is attached to one system. Its errors are counted, and contained."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, TypeAlias

from papyra._runtime.containment.log import LOG, log_error
from papyra.instruments import Instrument

if TYPE_CHECKING:
    from collections.abc import Callable

    import anyio

    from papyra._runtime.cell import Cell

__all__ = ["Attached", "Marks", "begin", "end", "replied"]

MAX_FAILURES = 10
"""Errors after which an instrument is removed."""


class Attached:
    """An instrument of one system. ``active`` until it is removed."""

    __slots__ = ("_detach", "active", "ended", "failed", "instrument", "left", "name", "scope", "send")

    def __init__(self, instrument: Instrument, detach: Callable[[Attached], None]) -> None:
        self.instrument = instrument
        self.send = instrument.send  # looked up once: it may be called for each message
        self.name = f"{type(instrument).__module__}.{type(instrument).__qualname__}"
        self.failed = 0
        self.active = True
        self.left = [0, 0]  # tells and asks until the next one to show
        self.scope: anyio.CancelScope | None = None  # of its `run`
        self.ended: anyio.Event | None = None
        self._detach = detach

    @property
    def wants_sends(self) -> bool:
        """Whether the instrument has a ``send`` of its own."""
        return type(self.instrument).send is not Instrument.send

    @property
    def has_run(self) -> bool:
        """Whether the instrument has a ``run`` of its own."""
        return type(self.instrument).run is not Instrument.run

    def show(self, cell: Cell, message: object, asks: bool) -> tuple[object, int]:
        """Return what ``send`` returns."""
        try:
            mark, gap = self.send(cell, message, asks)
            gap = max(index(gap), 1)
        except BaseException as error:  # noqa: BLE001 - an instrument's error, SystemExit too, must not stop a sender
            return self.send_failed(error)
        return mark, gap

    def send_failed(self, error: BaseException) -> tuple[None, int]:
        """Count an error of ``send``, and continue without a mark."""
        if isinstance(error, KeyboardInterrupt):
            raise error  # Ctrl-C, which comes anywhere
        self.count_failure("send", error)
        return None, 1

    def call(self, method: str, *args: object) -> bool:
        """Call a method. Return whether it succeeded."""
        try:
            getattr(self.instrument, method)(*args)
        except KeyboardInterrupt:
            raise  # Ctrl-C, which comes anywhere
        except BaseException as error:  # noqa: BLE001 - an instrument's error, SystemExit too, must not stop an actor
            self.count_failure(method, error)
            return False
        return True

    def count_failure(self, method: str, error: BaseException) -> None:
        """Log the first error, count all, and remove an instrument that raised too many."""
        self.failed += 1
        if self.failed == 1:
            text = "instrument %s raised in %s; the system goes on (logged once; control_panel() counts)"
            log_error(text, self.name, method, error=error)
        if self.failed == MAX_FAILURES and self.active:
            LOG.error("instrument %s raised %d times and is removed", self.name, self.failed)
            self._detach(self)


Marks: TypeAlias = tuple[tuple[Attached, object], ...]
"""The marks of a message: each instrument that marked it, with its mark."""


def begin(cell: Cell, marks: Marks) -> Marks:
    """Call ``begin``, and return the marks whose ``end`` is due."""
    if len(marks) == 1:  # as nearly always
        ((attached, mark),) = marks
        return marks if attached.active and attached.call("begin", cell, mark) else ()
    return tuple(
        (attached, mark) for attached, mark in marks if attached.active and attached.call("begin", cell, mark)
    )


def end(cell: Cell, begun: Marks, error: BaseException | None) -> None:
    """Call ``end``, in the reverse order of ``begin``."""
    for attached, mark in reversed(begun):
        attached.call("end", cell, mark, error)


def replied(cell: Cell, marks: Marks, error: BaseException | None) -> None:
    """Call ``replied``."""
    for attached, mark in marks:
        attached.call("replied", cell, mark, error)
