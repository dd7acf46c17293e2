"""The memory backend keeps the contract."""

from __future__ import annotations

import pytest

from papyra.persistence import InMemoryPersistence
from papyra.testing import BackendConformance


@pytest.fixture(autouse=True)
def _look_more_often(monkeypatch):
    monkeypatch.setattr("papyra.persistence.following.INTERVAL", 0.01)


class TestInMemoryPersistence(BackendConformance):
    @pytest.fixture
    def open_backend(self):
        return InMemoryPersistence
