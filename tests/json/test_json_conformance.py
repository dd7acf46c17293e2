"""Both file backends keep the contract of a store of facts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from papyra.testing import BackendConformance, full_disk
from papyra.testing.conformance import OpenBackend
from papyra_json import JsonFilePersistence, RotatingFilePersistence

DAMAGE = [b"no record", b"half of {an", bytes(range(128, 256))]


def spoiler(path: Path) -> Callable[[], object]:
    """Make a function that adds lines to a file, behind its records."""

    def spoil() -> list[bytes]:
        with path.open("ab") as file:
            file.write(b"\n".join([*DAMAGE, b""]))
        return DAMAGE

    return spoil


def filler(path: Path) -> Callable[[], AbstractContextManager[None]]:
    """Make a function that leaves little room on the disk of a file."""
    return lambda: full_disk(path, room=1000)


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

    @pytest.fixture
    def fill_store(self, tmp_path: Path) -> Callable[[], AbstractContextManager[None]]:
        return filler(tmp_path / "papyra.ndjson")


class TestRotatingFilePersistence(TestJsonFilePersistence):
    """With files so small that the tests rotate, and enough of them that nothing is lost."""

    @pytest.fixture
    def open_backend(self, tmp_path: Path) -> OpenBackend:
        return lambda retention_policy=None: RotatingFilePersistence(
            tmp_path / "papyra.ndjson", max_bytes=5_000, max_files=500, retention_policy=retention_policy
        )

    @pytest.fixture
    def backend_url(self, tmp_path: Path) -> str:
        return f"rotating:{tmp_path / 'url.ndjson'}"
