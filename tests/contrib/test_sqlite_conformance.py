"""The SQLite backend keeps the contract."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from papyra.testing import BackendConformance
from papyra_contrib._rows import to_row
from papyra_contrib.sqlite import SQLitePersistence

A_ROW_TOO_MANY = """
INSERT INTO facts (kind, timestamp, size, crc, system_id, actor, type, payload)
SELECT kind, timestamp, size, crc + 1, system_id, actor, type, payload FROM facts LIMIT 1
"""


class TestSQLitePersistence(BackendConformance):
    durable = True
    keeps_batch_ids = True
    shared = True

    @pytest.fixture
    def open_backend(self, tmp_path):
        return lambda retention_policy=None: SQLitePersistence(tmp_path / "papyra.db", retention_policy)

    @pytest.fixture
    def record_size(self):
        return lambda record: to_row(record)[-2]

    @pytest.fixture
    def backend_url(self, tmp_path):
        return f"sqlite:{tmp_path / 'url.db'}?busy_timeout=10s"

    @pytest.fixture
    def damage_store(self, tmp_path):
        def spoil():
            with closing(sqlite3.connect(tmp_path / "papyra.db")) as database, database:
                database.execute(A_ROW_TOO_MANY)

        return spoil
