"""Report who holds the lock that a command waits for, and bound the wait."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anyio

from papyra_cli._errors import Failure, say

if TYPE_CHECKING:
    from papyra_cli._output.progress import Gauge

__all__ = ["LockHolder", "LockTimeout", "find_holder", "watch_lock"]

_SILENT_SECONDS = 1.0
_POLL_SECONDS = 0.1
_COMMAND_CHARS = 60


class LockTimeout(Failure):
    """Another process has held a lock for longer than the command waits."""


class LockHolder(NamedTuple):
    """A process that has locked a file; ``pid`` is 0 if the system does not tell which."""

    file: str
    pid: int

    def __str__(self) -> str:
        if not self.pid:
            return f"the lock of {self.file}, which another process holds"
        return f"the lock of {self.file}, which process {self.pid}{_command_of(self.pid)} holds"


async def watch_lock(gauge: Gauge, most: float | None) -> None:
    """Report a wait for a lock that another process holds, and bound it.

    The command waits if its work does not advance for a second and another process holds a lock on one of its
    files. After ``most`` seconds of waiting, raise `LockTimeout`. Only Linux lists the locks; elsewhere
    nothing is known of them.
    """
    since: float | None = None
    noted = False
    before: object = None
    while True:
        await anyio.sleep(_POLL_SECONDS)
        now, holder = (gauge.latest, gauge.records), find_holder()
        if holder is None or now != before:
            since, before = None, now
            continue
        since = time.monotonic() if since is None else since
        waited = time.monotonic() - since
        if most is not None and waited >= most:
            raise LockTimeout(f"waited {most:g} s for {holder}. Try again later, or give a longer --wait")
        if waited >= _SILENT_SECONDS and not noted:
            noted = True
            say("note", f"waiting for {holder}")


def find_holder() -> LockHolder | None:
    """Return a process that holds an exclusive lock on an open file of this one, if the system lists it."""
    try:
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        return None
    held: dict[int, int] = {}
    for line in lines:
        words = line.split()
        # "1: FLOCK ADVISORY WRITE 1811 fe:00:5350204 0 EOF"; the lines of those who wait have an arrow.
        if words[1] != "->" and words[3] == "WRITE":
            # The inode alone: some file systems show another device here than in stat().
            held[int(words[5].rpartition(":")[2])] = max(int(words[4]), 0)
    for inode, file in _open_files().items():
        if inode in held and held[inode] != os.getpid() and inode not in _INHERITED:
            return LockHolder(file, held[inode])
    return None


def _open_files() -> dict[int, str]:
    """Return the regular files that this process has open, by inode."""
    files: dict[int, str] = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all that is wanted
        with suppress(OSError, ValueError):
            status = os.fstat(int(name))
            if stat.S_ISREG(status.st_mode):
                files[status.st_ino] = str(Path(f"/proc/self/fd/{name}").readlink())
    return files


_INHERITED = frozenset(_open_files())
"""Files that were open before any store was, as the lock that flock(1) in a crontab holds for the command."""


def _command_of(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    command = b" ".join(words).decode("utf-8", "replace")
    return (
        f" ({command if len(command) <= _COMMAND_CHARS else command[:_COMMAND_CHARS] + '…'})"
        if command
        else ""
    )
