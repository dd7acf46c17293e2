"""The example in the docstring of BackendConformance is a whole test module, and passes."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import textwrap

from papyra.testing import BackendConformance


def example() -> str:
    lines = inspect.cleandoc(BackendConformance.__doc__ or "").splitlines()
    first = next(number for number, line in enumerate(lines) if line.endswith("::")) + 1
    last = next(n for n in range(first, len(lines)) if lines[n] and not lines[n].startswith(" "))
    return textwrap.dedent("\n".join(lines[first:last]))


def test_the_example_passes_where_nobody_set_anything_up(tmp_path):
    (tmp_path / "test_example.py").write_text(example(), "utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "."],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
    assert "[asyncio" in ran.stdout or "failed" not in ran.stdout
