"""The record of what happened in a system: its contract, the memory store, and how stores are opened."""

from importlib import import_module
from typing import TYPE_CHECKING

from papyra.persistence.backend import PersistenceBackend, backend_capabilities, safe_metrics_snapshot
from papyra.persistence.batch import BatchBackend
from papyra.persistence.memory import InMemoryPersistence
from papyra.persistence.paging import Page
from papyra.persistence.query import Query
from papyra.persistence.registry import open_backend
from papyra.persistence.retention import RetentionPolicy

__all__ = [
    "BatchBackend",
    "InMemoryPersistence",
    "Page",
    "PersistenceBackend",
    "Query",
    "RetentionPolicy",
    "backend_capabilities",
    "open_backend",
    "safe_metrics_snapshot",
]

if TYPE_CHECKING:
    from papyra.persistence.json import JsonFilePersistence as JsonFilePersistence
    from papyra.persistence.json import RotatingFilePersistence as RotatingFilePersistence
else:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name not in ("JsonFilePersistence", "RotatingFilePersistence"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # Loaded when first used: core is complete without the distribution that has them.
        return getattr(import_module("papyra.persistence.json"), name)
