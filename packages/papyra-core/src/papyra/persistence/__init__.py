"""The record of what happened in a system: its contract, the memory store, and how stores are opened."""

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
