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
    from papyra.persistence.redis import RedisStreamsConfig as RedisStreamsConfig
    from papyra.persistence.redis import RedisStreamsPersistence as RedisStreamsPersistence
else:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name in ("JsonFilePersistence", "RotatingFilePersistence"):
            door = "json"
        elif name in ("RedisStreamsConfig", "RedisStreamsPersistence"):
            door = "redis"
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # Loaded when first used: core is complete without the distributions that have them.
        return getattr(import_module(f"papyra.persistence.{door}"), name)
