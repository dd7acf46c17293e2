"""What the command's exit codes mean."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """The exit codes of ``papyra``, a documented contract."""

    OK = 0
    """Yes, or done."""
    NO = 1
    """No: anomalies were found or a check failed; or an unexpected failure."""
    USAGE = 2
    """The command line is wrong or says too little."""
    UNAVAILABLE = 3
    """The store, or the plugin that it needs, can't be had."""
    NOT_RECOVERED = 4
    """A recovery ran and left anomalies."""
    INTERRUPTED = 130
    """Ctrl-C."""
