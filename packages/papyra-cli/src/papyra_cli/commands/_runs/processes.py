"""Tell whether a process that a record names is still running."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from datetime import datetime
from pathlib import Path

__all__ = ["is_running", "process_started"]

_TOLERANCE_SECONDS = 2.0
"""The kernel counts from the boot, whose time it knows to the second; `ps` prints whole seconds."""


def is_running(pid: int, started: float | None) -> bool:
    """Return whether this host has a process ``pid`` that began at the Unix time ``started``.

    Pids are reused, so a process that began at another time is a different one. If its start is unknown, the pid decides.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's process
        pass
    now = process_started(pid)
    return started is None or now is None or abs(now - started) <= _TOLERANCE_SECONDS


def process_started(pid: int) -> float | None:
    """Return the Unix time at which a process began, None if it can't be found out."""
    with suppress(OSError, ValueError, IndexError):
        return _from_proc(pid)
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        return _from_ps(pid)
    return None


def _from_proc(pid: int) -> float:
    # The command, in parentheses, may hold spaces and parentheses of its own.
    fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    boot = next(
        int(line.split()[1])
        for line in Path("/proc/stat").read_text("ascii").splitlines()
        if line.startswith("btime ")
    )
    return boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _from_ps(pid: int) -> float:
    done = subprocess.run(  # noqa: S603 - a number is the only argument that varies
        ["ps", "-o", "lstart=", "-p", str(pid)],  # noqa: S607 - macOS has it in /bin, others elsewhere
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
        timeout=5,
        check=True,
    )
    return datetime.strptime(done.stdout.strip(), "%a %b %d %H:%M:%S %Y").timestamp()
