"""What a backend's author sees of a check that fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent


def test_a_check_that_fails_shows_what_it_compared(tmp_path: Path) -> None:
    """As somebody has it who has installed the package: no conftest of ours rewrites its assertions."""
    (tmp_path / "test_wrong.py").write_text(
        dedent(
            """
            import pytest
            from papyra.persistence import InMemoryPersistence, RetentionPolicy
            from papyra.testing import BackendConformance

            class Wrong(InMemoryPersistence):
                async def select(self, query):
                    return (await super().select(query))[::-1]

            class TestWrong(BackendConformance):
                @pytest.fixture
                def open_backend(self):
                    return lambda policy=None: Wrong(policy or RetentionPolicy())
            """
        )
    )
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "-k", "limit", "test_wrong.py"]
    command = [sys.executable, "-m", "pytest", *options]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "At index 0 diff: PersistedEvent(" in ran.stdout
