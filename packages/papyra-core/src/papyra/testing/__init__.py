"""Tools for the tests of those who build on Papyra.

Names are imported when they are asked for: `BackendConformance` needs pytest, the package does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from papyra.testing.conformance import BackendConformance

__all__ = ["BackendConformance"]

_HOMES = {"BackendConformance": "papyra.testing.conformance"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
