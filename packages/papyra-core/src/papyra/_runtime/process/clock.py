"""The clock that a user gave to a system. The runtime reads it in the middle of its work."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from papyra._runtime.containment.log import log_error
from papyra._runtime.containment.tracebacks import cut_repeats
from papyra._runtime.timers import DrivenClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra._runtime.hook_calls import Observer

__all__ = ["Clock"]


class Clock:
    """A ``time_fn`` that never raises, and always returns a finite number.

    If the user's function raises, or returns anything else, its last good reading is returned again; before
    the first one, the time of the host. Stores call the clock in their threads, too.
    """

    def __init__(self, time_fn: Callable[[], float], observer: Observer) -> None:
        self._time_fn = time_fn
        self._observer = observer
        self._last: float | None = None
        self.driven = time_fn if isinstance(time_fn, DrivenClock) else None

    def __call__(self) -> float:
        """Return the time."""
        try:
            now = self._time_fn()
            if type(now) is not float:  # a subclass is user code at each comparison
                now = now if type(now) is int else float(now)
            if not math.isfinite(now):
                raise ValueError(f"time_fn returned {now!r}")
        except KeyboardInterrupt as error:
            self._observer.fatal(error)  # Ctrl-C comes anywhere
        except BaseException as error:  # noqa: BLE001 - user code: SystemExit and the like must not end the system
            self._observer.failed += 1
            self._observer.log_once("failed", "%s raised: its last good reading is used", error=error)
            cut_repeats(error)  # it may be one object, raised again and again
        else:
            self._last = now
            return now
        return time.time() if self._last is None else self._last

    def attach(self, advanced: Callable[[], None]) -> None:
        """If the clock drives the timers, have it call ``advanced`` when it advances."""
        if self.driven is not None:
            self.driven.attach(advanced)

    def detach(self, advanced: Callable[[], None]) -> None:
        """Undo `attach`."""
        try:
            if self.driven is not None:
                self.driven.detach(advanced)
        except KeyboardInterrupt as error:
            self._observer.fatal(error)  # Ctrl-C comes anywhere
        except BaseException as error:  # noqa: BLE001 - user code: the close of the system goes on
            log_error("detach of the time_fn raised", error=error)
