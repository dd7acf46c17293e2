"""The exit codes of the command."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """The exit codes of ``papyra``, a documented contract."""

    OK = 0
    """Success."""
    NO = 1
    """Anomalies were found, a check failed, or an unexpected error."""
    USAGE = 2
    """The command line is wrong or incomplete."""
    UNAVAILABLE = 3
    """The store or a plugin it needs is unavailable."""
    NOT_RECOVERED = 4
    """A recovery left anomalies."""
    INTERRUPTED = 130
    """Ctrl-C."""
