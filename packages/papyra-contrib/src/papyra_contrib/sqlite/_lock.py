"""The lock that a process holds while it writes to a database or replaces it."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from papyra.exceptions import PersistenceError
from papyra.persistence.files import drop_lock, identity, open_regular, take_lock
from papyra_contrib.sqlite._files import beside, create_private, identity_at

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from papyra.persistence.blocking import Work


__all__ = ["WriteLock"]

MAX_WAIT_SECONDS = 0.02  # for another thread, between two checks whether the caller still waits


class WriteLock:
    """The permanent ``<database>.lock``, held by a process that writes to the database or replaces it.

    SQLite locks a file, but not a name: without this, a writer could commit into a database that a recovery
    has just replaced.
    """

    def __init__(self, path: Path) -> None:
        self._database = path
        self._path = beside(path, ".lock")
        self._descriptor: int | None = None
        # asyncio's own cancel() takes a caller away while its thread still writes.
        self._threads = threading.Lock()

    @contextmanager
    def hold(self, work: Work, timeout: float) -> Generator[None]:
        """Wait for the lock, at most ``timeout`` seconds, and hold it inside."""
        deadline = time.monotonic() + timeout
        while not self._threads.acquire(timeout=MAX_WAIT_SECONDS):
            self._check(work, deadline, timeout)
        try:
            with self._hold_file(work, deadline, timeout):
                yield
        finally:
            self._threads.release()

    @contextmanager
    def _hold_file(self, work: Work, deadline: float, timeout: float) -> Generator[None]:
        while True:
            descriptor = self._open()
            take_lock(descriptor, lambda: self._check(work, deadline, timeout))
            if self._is_current(descriptor):
                break
            self.close()  # the file was removed, so other processes lock a new one
        try:
            yield
        finally:
            drop_lock(descriptor)

    def _is_current(self, descriptor: int) -> bool:
        return identity_at(self._path) == identity(os.fstat(descriptor))

    def pause(self, timeout: float) -> bool:
        """Keep the threads of this process out until `resume`.

        False if one of them takes longer than ``timeout``.
        """
        return self._threads.acquire(timeout=timeout)

    def hold_in_pause(self, work: Work, timeout: float) -> AbstractContextManager[None]:
        """Hold the lock against other processes, while `pause` keeps out the threads of this one."""
        return self._hold_file(work, time.monotonic() + timeout, timeout)

    def resume(self) -> None:
        """Let the threads in again."""
        self._threads.release()

    def _check(self, work: Work, deadline: float, timeout: float) -> None:
        work.check()
        if time.monotonic() >= deadline:
            raise PersistenceError(
                f"{self._path} was kept locked for {timeout} s. If a large database is being compacted or "
                "recovered, set a longer busy_timeout.",
                retry=True,
            )

    def close(self) -> None:
        """Close the lock file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            with suppress(FileExistsError):
                create_private(self._path, self._database if self._database.exists() else None)
            self._descriptor = open_regular(self._path, os.O_RDWR)
        return self._descriptor
