"""The log of the runtime. Filters and handlers are user code, and so are the texts of errors."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from papyra._runtime.containment.large_errors import text_of_large
from papyra._runtime.containment.tracebacks import traceback_of
from papyra._runtime.containment.user_values import is_a, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LOG", "log_error"]

_logger = logging.getLogger("papyra")


class _Log:
    """The logger ``papyra``, for all of the runtime. It raises nothing while a system runs.

    It is used half-way through changes of the runtime's state, and in the calls of senders.
    """

    def __init__(self) -> None:
        self.end_systems: Callable[[], bool] = lambda: False  # `papyra._runtime.process.interrupts` sets it
        self._is_reported = False

    def debug(self, text: str, *about: object) -> None:
        """Log for those who look for a fault of their own."""
        self.write(logging.DEBUG, text, about)

    def warning(self, text: str, *about: object) -> None:
        """Log something that may be a fault."""
        self.write(logging.WARNING, text, about)

    def error(self, text: str, *about: object) -> None:
        """Log a fault without a traceback."""
        self.write(logging.ERROR, text, about)

    def write(
        self, level: int, text: str, about: tuple[object, ...], error: BaseException | None = None
    ) -> bool:
        """Log ``text``, with ``about`` in place of each ``%s``. Return False if user code raised."""
        # A tuple, because logging asks an exception that is given alone whether it is true.
        info = None if error is None else (type(error), error, traceback_of(error))
        try:
            large = None if error is None else text_of_large(error)
            if large is None:
                _logger.log(level, text, *about, exc_info=info, stacklevel=3)
            elif _logger.isEnabledFor(level):
                path, line, function, _ = _logger.findCaller(stacklevel=3)
                record = _logger.makeRecord(_logger.name, level, path, line, text, about, info, function)
                record.exc_text = large  # a formatter takes it in place of its own text of `exc_info`
                _logger.handle(record)
        except KeyboardInterrupt as interrupt:
            self.contain(interrupt)
        except BaseException as own:  # noqa: BLE001 - user code: it must not reach the code that logs
            if error is None:
                self._report(own)
            return False
        return True

    def contain(self, interrupt: KeyboardInterrupt) -> None:
        """End the systems soon, because raising ``interrupt`` here would leave a change half done."""
        if not self.end_systems():
            raise interrupt

    def _report(self, error: BaseException) -> None:
        """Say once on stderr that lines are lost, because the log can't be used."""
        if self._is_reported or is_a(error, RecursionError):  # that may be the caller's
            return
        self._is_reported = True
        text = f"a filter or handler of the logger 'papyra' raised {type_name(type(error))}: lines are lost"
        with suppress(Exception):  # stderr may be closed, or an object of the program
            sys.stderr.write(f"{text}\n")


LOG = _Log()
"""What all of the runtime logs with."""


def log_error(text: str, *about: object, error: BaseException, level: int = logging.ERROR) -> None:
    """Log ``text``, with ``about`` in place of each ``%s``, and the traceback of ``error``."""
    if not LOG.write(level, text, about, error):  # its text or a note of it may be to blame
        LOG.write(level, f"{text} with %s, whose traceback can't be shown", (*about, type_name(type(error))))
