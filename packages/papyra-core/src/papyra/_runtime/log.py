"""Logging of errors that user code raised: their texts are user code, too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from papyra._runtime.user_values import type_name

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell

__all__ = ["log_error"]

_logger = logging.getLogger("papyra")


def log_error(text: str, cell: Cell, error: BaseException) -> None:
    """Log ``text``, with ``cell`` in place of its ``%s``, and the traceback of ``error``.

    Never raises an `Exception`.
    """
    try:
        _logger.error(text, cell, exc_info=error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the text or a note of the error is user code, and so is a log handler
        _logger.error(f"{text} with %s, whose traceback can't be shown", cell, type_name(type(error)))
