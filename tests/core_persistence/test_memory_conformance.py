"""The memory backend keeps the contract."""

from __future__ import annotations

import pytest

from papyra.persistence import InMemoryPersistence
from papyra.testing import BackendConformance


class TestInMemoryPersistence(BackendConformance):
    @pytest.fixture
    def open_backend(self):
        return InMemoryPersistence
