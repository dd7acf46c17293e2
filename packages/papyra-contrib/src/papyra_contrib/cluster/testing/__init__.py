"""Test a clustered program without a server, and an engine against the promises of `Transport`.

Names are imported on first use: only `TransportConformance` needs pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from papyra_contrib.cluster.testing._conformance import TransportConformance
    from papyra_contrib.cluster.testing._network import MemoryNetwork
    from papyra_contrib.cluster.testing._through_codec import through_codec

__all__ = ["MemoryNetwork", "TransportConformance", "through_codec"]

_HOMES = {
    "MemoryNetwork": "papyra_contrib.cluster.testing._network",
    "TransportConformance": "papyra_contrib.cluster.testing._conformance",
    "through_codec": "papyra_contrib.cluster.testing._through_codec",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
