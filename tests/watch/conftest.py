"""A throw-away distribution with an instrument."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Install a throw-away distribution with an instrument: its name, and the source of its module."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("PAPYRA_PLUGINS", raising=False)
    made: list[str] = []

    def add(name: str, source: str) -> None:
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[papyra.instruments]\n{name} = {name}_made:Made\n")
        (tmp_path / f"{name}_made.py").write_text(dedent(source))
        made.append(f"{name}_made")
        importlib.invalidate_caches()

    yield add
    for module in made:
        sys.modules.pop(module, None)
