"""The SQLite backend keeps the contract."""

from __future__ import annotations

import pytest

from papyra.testing import BackendConformance
from papyra_contrib.sqlite import SQLitePersistence


class TestSQLitePersistence(BackendConformance):
    durable = True
    shared = True

    @pytest.fixture
    def open_backend(self, tmp_path):
        return lambda retention_policy=None: SQLitePersistence(tmp_path / "papyra.db", retention_policy)

    @pytest.fixture
    def backend_url(self, tmp_path):
        return f"sqlite:{tmp_path / 'url.db'}?busy_timeout=10s"
