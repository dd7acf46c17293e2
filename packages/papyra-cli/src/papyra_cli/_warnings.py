"""What is logged while a command runs, in the form of the command's own errors."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from papyra_cli._errors import say

if TYPE_CHECKING:
    from papyra_cli._output.display import Display

__all__ = ["tell_of_warnings"]


class _OneLine(logging.Handler):
    """Writes warnings and errors to stderr, one line each; what they quote from a store steers no terminal."""

    def __init__(self, display: Display) -> None:
        super().__init__(logging.WARNING)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        say(record.levelname.lower(), record.getMessage(), self._display.colored(sys.stderr))


def tell_of_warnings(display: Display) -> None:
    """Take the place of what logging does where nobody has set it up; who sets it up goes before."""
    logging.lastResort = _OneLine(display)
