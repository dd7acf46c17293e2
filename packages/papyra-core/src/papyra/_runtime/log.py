"""Logging of errors that user code raised: their texts and their truth are user code, too."""

from __future__ import annotations

import logging
from contextlib import suppress

from papyra._runtime.user_values import type_name

__all__ = ["log_error"]

_logger = logging.getLogger("papyra")


def log_error(text: str, *about: object, error: BaseException, level: int = logging.ERROR) -> None:
    """Log ``text``, with ``about`` in place of each ``%s``, and the traceback of ``error``.

    Never raises an `Exception`.
    """
    try:
        # A tuple, because logging asks an exception that is given alone whether it is true.
        _logger.log(level, text, *about, exc_info=(type(error), error, error.__traceback__))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the text or a note of the error is user code, and so is a log handler
        with suppress(Exception):  # a filter of the program that raises for every line
            _logger.log(
                level, f"{text} with %s, whose traceback can't be shown", *about, type_name(type(error))
            )
