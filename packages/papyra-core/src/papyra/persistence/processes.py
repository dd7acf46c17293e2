"""Processes of this host: when one began, whether it still runs, and how a run of a system ended."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from papyra.persistence.models import JSONValue

__all__ = ["how_run_ended", "is_running", "process_started"]

_TOLERANCE_SECONDS = 2.0
"""The kernel counts from the boot, whose time it knows to the second; `ps` prints whole seconds."""


def how_run_ended(started: Mapping[str, JSONValue] | None, stopped: Mapping[str, JSONValue] | None) -> str:
    """Return how a run ended, from the payloads of its `SystemStarted` and `SystemStopped`.

    It is ``clean`` or ``failed`` if the end is recorded. Otherwise it is ``running`` if the process lives,
    ``killed`` if the process is gone, and ``unknown`` if it ran on another host or its start is not known.
    """
    if stopped is not None:
        return "failed" if stopped.get("reason") == "error" else "clean"
    if started is None or started.get("host") != socket.gethostname():
        return "unknown"
    pid, began = started.get("pid"), started.get("process_started")
    if not isinstance(pid, int):
        return "unknown"
    return "running" if is_running(pid, began if isinstance(began, int | float) else None) else "killed"


def is_running(pid: int, started: float | None) -> bool:
    """Return whether this host has a process ``pid`` that began at the Unix time ``started``.

    Pids are reused, so a process that began at another time is a different one. If its start is unknown, the
    pid decides.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's process
        pass
    if _is_zombie(pid):
        return False
    now = process_started(pid)
    return started is None or now is None or abs(now - started) <= _TOLERANCE_SECONDS


def process_started(pid: int) -> float | None:
    """Return the Unix time at which a process began, None if it can't be found out."""
    with suppress(OSError, ValueError, IndexError):
        return _from_proc(pid)
    return _from_ps(pid)


def _is_zombie(pid: int) -> bool:
    """Return whether a process has ended, and its parent has not asked for its exit code."""
    with suppress(OSError, IndexError):
        return _stat(pid)[0] in "ZX"
    return False


def _stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` from the state on."""
    # The command, in parentheses, may hold spaces and parentheses of its own.
    return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()


def _from_proc(pid: int) -> float:
    boot = next(
        int(line.split()[1])
        for line in Path("/proc/stat").read_text("ascii").splitlines()
        if line.startswith("btime ")
    )
    return boot + int(_stat(pid)[19]) / os.sysconf("SC_CLK_TCK")


def _from_ps(pid: int) -> float | None:
    # Imported here, because nothing of it is needed where /proc is.
    import subprocess
    from datetime import datetime

    with suppress(OSError, ValueError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603 - a number is the only argument that varies
            ["ps", "-o", "lstart=", "-p", str(pid)],  # noqa: S607 - macOS has it in /bin, others elsewhere
            capture_output=True,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=5,
            check=True,
        )
        return datetime.strptime(done.stdout.strip(), "%a %b %d %H:%M:%S %Y").timestamp()
    return None
