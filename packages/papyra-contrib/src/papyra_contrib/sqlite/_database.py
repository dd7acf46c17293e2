"""A database file: its connections, transactions and reads.

A transaction is stored as a whole, a read sees one state, and a file that was replaced is opened anew.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from papyra.exceptions import PersistenceError, StoreFull
from papyra.persistence.blocking import Work, WorkCancelled
from papyra.persistence.files import failed_write
from papyra_contrib.sqlite._connect import (
    begin_writing,
    connect,
    connect_for_reading,
    use_wal,
    wait_for_recovery,
)
from papyra_contrib.sqlite._errors import DAMAGE, FAILED_SYNC, HARMLESS, explain, is_damage, primary_code
from papyra_contrib.sqlite._files import (
    beside,
    complaint,
    create_private,
    identity_at,
    is_full,
    keep_orphan,
    orphan_log,
    refuse_unwritable,
    resting,
)
from papyra_contrib.sqlite._fork_safety import forget, forks_with, refuse_if_taken_along, taken_along
from papyra_contrib.sqlite._lock import WriteLock
from papyra_contrib.sqlite._schema import bring_up_to_date, is_initialized, lay_out
from papyra_contrib.sqlite._swap import finish_swap, published

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from papyra_contrib.sqlite._files import Identity, Stamp

__all__ = ["SYNCHRONOUS", "Database"]

_T = TypeVar("_T")

SYNCHRONOUS = {"os": "NORMAL", "always": "FULL"}
"""In WAL mode NORMAL syncs only at checkpoints.

A power loss loses the last transactions, never the database.
"""

FORK_WAIT_SECONDS = 0.5  # for work in other threads


class Database:
    """A database. Each method blocks: call reads in any number of threads, all else in one at a time."""

    def __init__(self, path: Path, durability: str, busy_timeout: float) -> None:
        self.path = path
        self.busy_timeout = busy_timeout
        self.healthy = True
        self._synchronous = SYNCHRONOUS[durability]
        self._lock = WriteLock(path)
        self._connection: sqlite3.Connection | None = None
        self._opened: Identity | None = None
        self._log: Identity | None = None
        self._shut = False
        self._process: int | None = None  # the id of the first process that used it
        self._reading = 0
        self._gate = threading.Condition(threading.Lock())  # guards the number of readers
        self._paused = False
        forks_with(self)

    # -- writing

    @contextmanager
    def transaction(self, work: Work) -> Generator[sqlite3.Connection]:
        """Commit everything that is written inside, or nothing if anything raises."""
        with self.guarded(), self.exclusively(work):
            connection = self.connection(work)
            begin_writing(connection, work, self.busy_timeout)
            try:
                with work.interruptible(connection):
                    yield connection
                    connection.execute("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    if connection.in_transaction:  # SQLite itself may have rolled back
                        connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error) and primary_code(error) not in HARMLESS:
                    self.disconnect()
                raise

    def probe(self, work: Work) -> None:
        """Raise if a record could not be written now. Creates no database, and leaves nothing in one."""
        self.refuse_if_forked()
        with self.guarded():
            refuse_unwritable(self.path)
        if identity_at(self.path) is None:
            return
        with self.guarded(), self.exclusively(work):
            connection = self.connection(work)
            begin_writing(connection, work, self.busy_timeout)
            try:
                connection.execute("INSERT INTO batches (run, batch) VALUES ('', '')")
            finally:
                connection.execute("ROLLBACK")

    def exclusively(self, work: Work) -> AbstractContextManager[None]:
        """Hold the lock that every writer of this database takes, in any process."""
        self.refuse_if_forked()
        return self._lock.hold(work, self.busy_timeout)

    def connection(self, work: Work) -> sqlite3.Connection:
        """Return the connection for writing, to the file that has the name now. The caller holds the lock."""
        if self._shut:  # a call that was on its way when the backend was closed
            raise PersistenceError("the sqlite backend is closed. Open a new one.")
        finish_swap(self.path)
        if self._connection is not None and self._opened == identity_at(self.path):
            return self._connection
        self._leave()
        self.refuse_if_irregular()
        if log := orphan_log(self.path):
            keep_orphan(log, self.path.parent)
        with suppress(FileExistsError):
            create_private(self.path)
        connection = connect(self.path, "rw")
        try:
            wait_for_recovery(connection, work, self.busy_timeout)
            initialized = is_initialized(connection, self.path)
            use_wal(connection, self.path, work, self.busy_timeout)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            if self._synchronous == "FULL":
                connection.execute(
                    "PRAGMA fullfsync = ON"
                )  # macOS: its fsync alone stops at the disk's cache
            if initialized:
                bring_up_to_date(connection, work, self.busy_timeout)
            else:
                lay_out(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._opened = connection, identity_at(self.path)
        self._log = identity_at(beside(self.path, "-wal"))
        return connection

    def _leave(self) -> None:
        """Close a database that no longer has the name.

        SQLite notices that and leaves the log alone. If the log is still that of the old database, its
        commits would be lost, so they are moved into the database first, wherever that is now.
        """
        if self._connection is not None and identity_at(beside(self.path, "-wal")) == self._log:
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self.disconnect()

    def disconnect(self) -> None:
        """Close the connection for writing, if it is open."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # commits are safe whatever closing raises
                connection.close()

    def close(self, work: Work) -> None:
        """Release everything. The last process that closes the database merges the log into it."""
        self._shut = True
        if self.inherited:
            return
        try:
            if self._connection is not None and self._opened == identity_at(self.path):
                with suppress(PersistenceError, OSError), self.exclusively(work):
                    self.disconnect()
        finally:
            self.disconnect()
            self._lock.close()

    # -- reading

    def read(self, work: Work, function: Callable[[sqlite3.Connection], _T], empty: _T) -> _T:
        """Return what ``function`` reads from one state of the database; ``empty`` if there is none yet.

        Creates nothing. If the database is replaced meanwhile, it is read again.
        """
        self.refuse_if_forked()
        deadline = time.monotonic() + self.busy_timeout
        with self.guarded(), self._counted():
            rest = resting(self.path)
            while True:
                seen = self._seen()
                try:
                    result = self._read_once(work, function, empty, rest)
                except sqlite3.Error as error:
                    again = primary_code(error) == sqlite3.SQLITE_BUSY or self._seen() != seen
                    if not self._disturbed(rest) and (not again or time.monotonic() >= deadline):
                        raise
                else:
                    again = self._seen() != seen
                    if not self._disturbed(rest) and (not again or time.monotonic() >= deadline):
                        return result
                rest = None  # from now on with SQLite's locks
                work.check()

    def _read_once(
        self, work: Work, function: Callable[[sqlite3.Connection], _T], empty: _T, rest: Stamp | None
    ) -> _T:
        self.refuse_if_irregular()
        pending = published(
            self.path
        )  # then the old log may be gone already, and its records are only in this one
        if pending is None and identity_at(self.path) is None:
            return empty
        connection = connect(pending, "ro&immutable=1") if pending else connect_for_reading(self.path, rest)
        try:
            with work.interruptible(connection):
                connection.execute("BEGIN")
                return function(connection) if is_initialized(connection, self.path) else empty
        finally:
            connection.close()

    @contextmanager
    def _counted(self) -> Generator[None]:
        with self._gate:
            self._reading += 1
        try:
            yield
        finally:
            with self._gate:
                self._reading -= 1
                self._gate.notify_all()

    def _seen(self) -> tuple[Identity | None, Identity | None]:
        return identity_at(self.path), identity_at(beside(self.path, ".recovered"))

    def _disturbed(self, rest: Stamp | None) -> bool:
        """Whether the database was opened for writing while it was read without a lock."""
        return rest is not None and resting(self.path) != rest

    # -- forks

    @property
    def inherited(self) -> bool:
        """Whether it was used before this process was forked."""
        return self._process not in (None, os.getpid())

    def refuse_if_forked(self) -> None:
        """Raise if this process inherited the store, or its database while it was in use."""
        if self.inherited:
            raise PersistenceError(
                f"the store of {self.path} was opened before this process was forked. Open a new store in the child."
            )
        refuse_if_taken_along(self.path)
        self._process = os.getpid()

    def before_fork(self) -> None:
        """Close the database; the next write opens it again."""
        self._paused = self._lock.pause(FORK_WAIT_SECONDS)
        if self._paused and self._connection is not None:
            with suppress(PersistenceError, OSError), self._lock.hold_in_pause(Work(), FORK_WAIT_SECONDS):
                self.disconnect()
        self._gate.acquire()
        self._gate.wait_for(lambda: self._reading == 0, FORK_WAIT_SECONDS)

    def after_fork(self) -> None:
        """Go on, in the parent."""
        self._gate.release()
        if self._paused:
            self._lock.resume()

    def in_child(self) -> bool:
        """Release an open connection, and the lock, which would otherwise outlive a parent that dies."""
        if self._reading or not self._paused or self._connection is not None:
            taken_along(self.path)
        if self._connection is not None:
            forget(self._connection)
            self._connection = None
        self._lock.close()
        self.after_fork()
        return not self.inherited

    # -- trouble

    def mended(self) -> None:
        """Note that a recovery has replaced the damaged database."""
        self.healthy = True

    def refuse_if_irregular(self) -> None:
        """Raise if the path of the database names a link, a folder or a special file."""
        problem = complaint(self.path)
        if problem:
            raise PersistenceError(problem)

    @contextmanager
    def guarded(self) -> Generator[None]:
        """Turn errors of SQLite and the file system into a `PersistenceError` that says what can be done."""
        try:
            yield
        except sqlite3.Error as error:
            code = primary_code(error)
            if code == sqlite3.SQLITE_INTERRUPT:
                raise WorkCancelled("the caller was cancelled") from error
            if code in DAMAGE or getattr(error, "sqlite_errorcode", None) in FAILED_SYNC:
                self.healthy = False
            if code == sqlite3.SQLITE_IOERR and is_full(self.path):  # of a log or index that could not grow
                code = sqlite3.SQLITE_FULL
            kind = StoreFull if code == sqlite3.SQLITE_FULL else PersistenceError
            raise kind(explain(error, code, self.path), retry=not is_damage(error)) from error
        except OSError as error:
            raise failed_write(f"{self.path}: {error}", error) from error
