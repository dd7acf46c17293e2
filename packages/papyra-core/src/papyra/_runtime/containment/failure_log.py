"""The log lines of failures: the actor, the decision and the traceback; after ten like ones, their count."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from papyra._runtime.containment.log import LOG, log_error
from papyra._runtime.containment.tracebacks import last_place
from papyra._runtime.containment.user_values import type_name

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell
    from papyra._runtime.timers import Timer, Timers

    Kind: TypeAlias = "tuple[int, int, object, str]"

__all__ = ["FailureLog"]

LOGGED_OF_A_KIND = 10
"""Failures of one kind that are logged in `WINDOW_SECONDS`; the others are counted."""

WINDOW_SECONDS = 60.0

MAX_KINDS = 1_000
"""Kinds of failures that are counted apart. For a new one, the oldest is forgotten."""


class _Seen:
    """The failures of one kind in one minute."""

    __slots__ = ("about", "began", "logged", "muted", "timer")

    def __init__(self, began: float, about: str) -> None:
        self.began = began
        self.about = about
        self.logged = 0
        self.muted = 0
        self.timer: Timer | None = None


class FailureLog:
    """Logs the failures of one system's actors.

    Failures are of one kind if class of actor, class of error, place in the code and decision are the same.
    """

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._kinds: dict[Kind, _Seen] = {}
        self._closed = False

    def failed(self, cell: Cell, text: str, error: BaseException, decided: str) -> None:
        """Log ``text`` with ``cell`` in place of its ``%s``, the decision, and a traceback of ``error``."""
        if self._admits(cell, error, decided.partition(" ")[0]):
            log_error(f"{text} with %s: %s", cell, type_name(type(error)), decided, error=error)

    def decided(self, cell: Cell, text: str, error: BaseException, decided: str) -> None:
        """Log the decision on a failure whose traceback is in the log already."""
        LOG.warning("actor %s %s %s: %s", cell, text, type_name(type(error)), decided)

    def _admits(self, cell: Cell, error: BaseException, decided: str) -> bool:
        """Count a failure. Return False if it is only counted."""
        code, line = last_place(error)
        kind = (id(cell.actor_type), id(type(error)), (id(code), line), decided)
        now = self._timers.now()
        seen = self._kinds.get(kind)
        if seen is None or now - seen.began >= WINDOW_SECONDS:
            self._forget(kind)
            if len(self._kinds) >= MAX_KINDS:
                self._forget(next(iter(self._kinds)))
            actor = type_name(cell.actor_type) if cell.actor_type is not None else "actor"
            at = f" at {Path(code.co_filename).name}:{line}" if code is not None else ""
            seen = self._kinds[kind] = _Seen(now, f"{actor}: {type_name(type(error))}{at}, {decided}")
        if seen.logged < LOGGED_OF_A_KIND or self._closed:
            seen.logged += 1
            return True
        seen.muted += 1
        if seen.timer is None:
            left = seen.began + WINDOW_SECONDS - now
            seen.timer = self._timers.after(left, partial(self._forget, kind))
        return False

    def _forget(self, kind: Kind) -> None:
        """Log how many failures of a kind were not logged, and log the next ones again."""
        seen = self._kinds.pop(kind, None)
        if seen is None:
            return
        if seen.timer is not None:
            seen.timer.cancel()
        if seen.muted:
            seconds = max(0.0, self._timers.now() - seen.began)
            LOG.error("%d more failures like those above in %.0f s (%s)", seen.muted, seconds, seen.about)

    def close(self) -> None:
        """Log what was only counted; no timer is set any more."""
        self._closed = True
        for kind in list(self._kinds):
            self._forget(kind)
