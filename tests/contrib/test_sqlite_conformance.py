"""The SQLite backend keeps the contract."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager

import pytest

from papyra.testing import BackendConformance, full_disk
from papyra_contrib._rows import to_row
from papyra_contrib.sqlite import SQLitePersistence

DAMAGE = "what no checksum agrees with"
A_ROW_TOO_MANY = """
INSERT INTO facts (kind, timestamp, size, crc, system_id, actor, type, payload)
SELECT kind, timestamp, size, crc + 1, system_id, actor, type, ? FROM facts LIMIT 1
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
                database.execute(A_ROW_TOO_MANY, [DAMAGE])
            return DAMAGE.encode()

        return spoil

    @pytest.fixture
    def fill_store(self, tmp_path, monkeypatch):
        @contextmanager
        def fill():
            # SQLite reports an I/O error for this limit. The backend then looks at the free room of the disk.
            with full_disk(tmp_path / "papyra.db"), monkeypatch.context() as patched:
                patched.setattr("papyra_contrib.sqlite._database.is_full", lambda _path: True)
                yield

        return fill
