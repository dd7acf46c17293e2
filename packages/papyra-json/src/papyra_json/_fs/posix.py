"""All that only POSIX has: advisory locks, flags that refuse odd files, syncs of folders.

A port to Windows replaces this one module.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = [
    "SAFE_FLAGS",
    "drop_lock",
    "in_forked_child",
    "locked_file",
    "sync_file",
    "sync_folder",
    "take_lock",
]

SAFE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""For every open: no symbolic link is followed, and a FIFO without a peer can't hang the caller."""


_LONGEST_PAUSE = 0.02  # seconds between two looks whether the lock is free


def in_forked_child(call: Callable[[], None]) -> None:
    """Have ``call`` run in every process that is forked off this one without another program."""
    os.register_at_fork(after_in_child=call)


def take_lock(fd: int, checkpoint: Callable[[], None], *, shared: bool = False) -> None:
    """Take the advisory lock of an open file; wait for it until ``checkpoint`` raises.

    The wait is a poll, for nothing ends a thread's blocking ``flock``, and an interpreter that exits joins its threads.
    The lock belongs to the open file, not to the process: two opens in one process exclude each other too.
    """
    how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    pause = 0.0005
    while True:
        try:
            fcntl.flock(fd, how)
            return
        except BlockingIOError:
            checkpoint()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def drop_lock(fd: int) -> None:
    """Give the advisory lock back. Closing the file would not do: a forked child may have inherited it."""
    fcntl.flock(fd, fcntl.LOCK_UN)


_held: set[int] = set()


@contextmanager
def locked_file(fd: int) -> Generator[bool]:
    """Hold the advisory lock of an open file if it is free, and tell whether it was."""
    _held.add(fd)
    mine = False
    try:
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        yield mine
    finally:
        _held.discard(fd)
        if mine:
            drop_lock(fd)


def _let_go() -> None:
    """Close what a child has inherited: it would hold the locks as long as it lives, though their holder is dead."""
    for fd in _held:
        os.close(fd)
    _held.clear()


in_forked_child(_let_go)


def sync_file(fd: int) -> None:
    """Bring a file's content to the disk."""
    if sys.platform == "darwin":  # there, fsync stops at the drive's own cache
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def sync_folder(path: str) -> None:
    """Bring a folder's names to the disk: what was made, renamed or removed in it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
