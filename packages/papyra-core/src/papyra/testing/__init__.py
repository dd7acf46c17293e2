"""Tools for the tests of those who build on Papyra.

Names are imported when they are asked for: `BackendConformance` needs pytest, the package does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from papyra.testing.clock import ManualClock
    from papyra.testing.conformance import BackendConformance
    from papyra.testing.disk import full_disk
    from papyra.testing.probe import Probe
    from papyra.testing.recorder import EventRecorder
    from papyra.testing.registration import register_backend
    from papyra.testing.seeded import SimulationDeadlock, explore, run_seeded
    from papyra.testing.wire import Wire

__all__ = [
    "BackendConformance",
    "EventRecorder",
    "ManualClock",
    "Probe",
    "SimulationDeadlock",
    "Wire",
    "explore",
    "full_disk",
    "register_backend",
    "run_seeded",
]

_HOMES = {
    "BackendConformance": "papyra.testing.conformance",
    "EventRecorder": "papyra.testing.recorder",
    "ManualClock": "papyra.testing.clock",
    "Probe": "papyra.testing.probe",
    "SimulationDeadlock": "papyra.testing.seeded",
    "Wire": "papyra.testing.wire",
    "explore": "papyra.testing.seeded",
    "full_disk": "papyra.testing.disk",
    "register_backend": "papyra.testing.registration",
    "run_seeded": "papyra.testing.seeded",
}


if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
