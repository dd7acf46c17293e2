"""Where the distributions are, and what their pyproject.toml says."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def workspace() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.fixture(scope="session")
def projects() -> dict[str, dict[str, Any]]:
    """The four distributions by name, each with the text of its pyproject.toml read."""
    found = [
        tomllib.loads(path.read_text("utf-8")) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))
    ]
    return {one["project"]["name"]: one for one in found}
