"""An instrument that is attached to one system. Its errors are counted, and contained."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from papyra._runtime.containment.log import LOG, log_error
from papyra._runtime.containment.user_values import is_a
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

    def send_failed(self, error: BaseException) -> tuple[None, int]:
        """Count an error of ``send``, and continue without a mark."""
        self.count_failure("send", error)
        return None, 1

    def call(self, method: str, *args: object) -> bool:
        """Call a method. Return whether it succeeded."""
        try:
            getattr(self.instrument, method)(*args)
        except BaseException as error:  # noqa: BLE001 - an instrument's error, SystemExit too, must not stop an actor
            self.count_failure(method, error)
            return False
        return True

    def count_failure(self, method: str, error: BaseException) -> None:
        """Log the first error, count all, and remove an instrument that raised too many.

        A `KeyboardInterrupt` is raised again: Ctrl-C comes anywhere.
        """
        if is_a(error, KeyboardInterrupt):
            raise error
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
    begun: Marks = ()
    for pair in marks:
        attached, mark = pair
        if attached.active:
            try:  # as in `Attached.call`, without its call
                attached.instrument.begin(cell, mark)
            except BaseException as error:  # noqa: BLE001 - as there
                attached.count_failure("begin", error)
            else:
                begun = (*begun, pair)
    return begun


def end(cell: Cell, begun: Marks, error: BaseException | None) -> None:
    """Call ``end``, in the reverse order of ``begin``."""
    for attached, mark in reversed(begun):
        try:  # as in `Attached.call`, without its call
            attached.instrument.end(cell, mark, error)
        except BaseException as failure:  # noqa: BLE001 - as there
            attached.count_failure("end", failure)


def replied(cell: Cell, marks: Marks, error: BaseException | None) -> None:
    """Call ``replied``."""
    for attached, mark in marks:
        attached.call("replied", cell, mark, error)
