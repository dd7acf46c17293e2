"""The first and the last fact of a run, `SystemStarted` and `SystemStopped`.

Their address has the number 0. They are stored, but `ActorSystem.events` and hooks do not show them.
"""

from __future__ import annotations

import os
import platform
import socket
from typing import TYPE_CHECKING

from papyra._version import __version__
from papyra.persistence.models import PersistedEvent
from papyra.persistence.processes import process_started

if TYPE_CHECKING:
    from papyra._runtime.runtime import Runtime
    from papyra.persistence.models import JSONValue

__all__ = ["RunFacts"]


class RunFacts:
    """Notes the start and the end of one run."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._began = rt.loop.time()
        self._ended = False

    def started(self) -> None:
        """Note the start, with the process and its versions."""
        self._note(
            "SystemStarted",
            {
                "pid": os.getpid(),
                "process_started": process_started(os.getpid()),
                "host": socket.gethostname(),
                "python": platform.python_version(),
                "papyra": __version__,
                "loop": "trio" if "trio" in type(self._rt.loop).__module__ else "asyncio",
            },
        )

    def stopped(self, reason: str) -> None:
        """Note the end, once: ``closed``, ``cancelled`` or ``error``."""
        if self._ended:
            return  # the task that closed the system was cancelled, and another one continues
        self._ended = True
        rt = self._rt
        self._note(
            "SystemStopped",
            {
                "reason": reason,
                "seconds": round(rt.loop.time() - self._began, 3),
                "actors": rt.last_id,
                "crashes": rt.history.crashes_ever,
                "dead_letters": rt.history.dead_letters.ever,
                "facts": rt.fact_writer.facts_ever,
                "facts_dropped": rt.fact_writer.backend.metrics.records_dropped,
            },
        )

    def _note(self, kind: str, payload: dict[str, JSONValue]) -> None:
        rt, history = self._rt, self._rt.history
        rt.fact_writer.add(
            PersistedEvent(rt.system_id, f"{rt.system_id}:0", kind, payload, history.clock(), history.run)
        )
