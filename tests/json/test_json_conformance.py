"""Both file backends keep the contract of a store of facts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from papyra.testing import BackendConformance
from papyra.testing.conformance import OpenBackend
from papyra_json import JsonFilePersistence, RotatingFilePersistence


def spoiler(path: Path) -> Callable[[], object]:
    """Make a function that adds a line to a file, behind its records."""

    def spoil() -> None:
        with path.open("ab") as file:
            file.write(b"no record\n")

    return spoil


class TestJsonFilePersistence(BackendConformance):
    durable = True
    shared = True

    @pytest.fixture
    def open_backend(self, tmp_path: Path) -> OpenBackend:
        return lambda retention_policy=None: JsonFilePersistence(tmp_path / "papyra.ndjson", retention_policy)

    @pytest.fixture
    def backend_url(self, tmp_path: Path) -> str:
        return f"json:{tmp_path / 'url.ndjson'}"

    @pytest.fixture
    def damage_store(self, tmp_path: Path) -> Callable[[], object]:
        return spoiler(tmp_path / "papyra.ndjson")


class TestRotatingFilePersistence(BackendConformance):
    """With files so small that the tests rotate, and enough of them that nothing is lost."""

    durable = True
    shared = True

    @pytest.fixture
    def open_backend(self, tmp_path: Path) -> OpenBackend:
        return lambda retention_policy=None: RotatingFilePersistence(
            tmp_path / "papyra.ndjson", max_bytes=5_000, max_files=500, retention_policy=retention_policy
        )

    @pytest.fixture
    def backend_url(self, tmp_path: Path) -> str:
        return f"rotating:{tmp_path / 'url.ndjson'}"

    @pytest.fixture
    def damage_store(self, tmp_path: Path) -> Callable[[], object]:
        return spoiler(tmp_path / "papyra.ndjson")
