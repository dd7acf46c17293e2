"""Connections to one database: bounded waits, errors with advice, and a small pool."""

from __future__ import annotations

import re
import selectors
import threading
import time
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import conninfo, errors
from psycopg.waiting import Ready, Wait

from papyra.exceptions import PersistenceError, StoreFull

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn

    from papyra.persistence.blocking import Work

__all__ = ["Connection", "Database"]

_RV = TypeVar("_RV")

POLL_SECONDS = 0.05  # how often a wait checks whether its caller was cancelled
MAX_IDLE_CONNECTIONS = 4


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection whose waits end: after ``timeout`` seconds without a byte, or when ``work`` is cancelled.

    It is closed then, because the answer may still come.
    """

    timeout: float = 5.0
    work: Work | None = None

    def wait(self, gen: PQGen[_RV], interval: float = POLL_SECONDS, timeout: float | None = None) -> _RV:
        """Run one exchange with the server; the driver calls this for each.

        Since psycopg 3.3 the wait for a notification, which may never come, has a ``timeout``.
        """
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        end = time.monotonic() + self.timeout
        try:
            wanted = next(gen)
            with selectors.DefaultSelector() as selector:
                selector.register(self.fileno(), wanted)
                while True:
                    ready = selector.select(min(interval, POLL_SECONDS))
                    if ready:
                        end = time.monotonic() + self.timeout
                    else:
                        self._check(end)
                    wanted = gen.send(Ready(ready[0][1]) if ready else Ready.NONE)
                    if selector.get_key(self.fileno()).events != wanted:
                        selector.modify(self.fileno(), wanted)
        except StopIteration as ended:
            result: _RV = ended.value
            return result

    def flush(self) -> None:
        """Wait until libpq has sent all its data. Raise if the caller was cancelled."""
        if self.work is not None:
            self.work.check()
        self.wait(_flushed(self.pgconn))

    def _check(self, end: float) -> None:
        """Give up the exchange if its time is over or its caller was cancelled."""
        if self.work is not None and self.work.cancelled:
            self.close()
            self.work.check()
        if time.monotonic() >= end:
            self.close()
            raise errors.ConnectionTimeout(f"no answer within {self.timeout:g} s")


class Database:
    """The server and database of a store. Every method blocks, and may be called in any thread."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._idle: list[Connection] = []
        self.name = _name(url)
        self.reachable = True
        self.closed = False

    @contextmanager
    def connection(self, work: Work) -> Generator[Connection]:
        """Lend a connection in autocommit; an error of the server becomes a `PersistenceError`.

        A connection that was cut meanwhile is not kept. After an error, the idle ones are closed, too: a
        restart of the server may have cut all of them.
        """
        with self.explained():
            connection = self._take(work)
            try:
                yield connection
            except BaseException:
                self.forget_idle()
                connection.close()
                raise
            finally:
                connection.work = None
            self._give_back(connection)

    def connect(self, work: Work | None = None) -> Connection:
        """Open a connection that the caller closes."""
        with self.explained():
            return self._connect(work)

    def _take(self, work: Work) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                connection.work = work
                return connection
        return self._connect(work)

    def _connect(self, work: Work | None) -> Connection:
        if self.closed:
            raise PersistenceError("the postgres backend is closed. Open a new one.")
        connection = self._in_time(work)
        connection.timeout = self._timeout
        connection.work = work
        return connection

    def _in_time(self, work: Work | None) -> Connection:
        """Connect within the time-out, for any number of hosts, or until the caller is cancelled.

        A thread of its own connects: nothing interrupts the lookup of a host name, and libpq counts whole
        seconds only.
        """
        future: Future[Connection] = Future()
        threading.Thread(target=self._connect_into, args=(future,), daemon=True).start()
        end = time.monotonic() + self._timeout
        while not wait((future,), POLL_SECONDS).done:
            if (work is not None and work.cancelled) or time.monotonic() >= end:
                future.add_done_callback(_close_result)
                if work is not None:
                    work.check()
                raise errors.ConnectionTimeout(f"no connection within {self._timeout:g} s")
        return future.result()

    def _connect_into(self, future: Future[Connection]) -> None:
        try:
            connection = Connection.connect(
                self._url,
                autocommit=True,
                connect_timeout=max(2, round(self._timeout)),  # libpq takes 1 second for 2
                application_name="papyra",
                client_encoding="utf8",  # `write` sends UTF-8, whatever the database and the URL say
            )
        except BaseException as error:  # noqa: BLE001 - the thread that waits for the result raises it
            future.set_exception(error)
        else:
            future.set_result(connection)

    def _give_back(self, connection: Connection) -> None:
        if connection.closed or self.closed or len(self._idle) >= MAX_IDLE_CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)

    def forget_idle(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Refuse new connections and close the idle ones."""
        self.closed = True
        self.forget_idle()

    @contextmanager
    def explained(self) -> Generator[None]:
        """Raise errors of the driver as a `PersistenceError` with advice."""
        try:
            yield
        except psycopg.Error as error:
            retry = _may_pass(error)
            self.reachable = not isinstance(error, psycopg.OperationalError)
            text = (error.diag.message_primary or str(error).strip() or type(error).__name__).rstrip(".")
            kind = StoreFull if isinstance(error, errors.DiskFull) else PersistenceError
            raise kind(f"PostgreSQL at {self.name}: {text}. {_hint(error)}", retry=retry) from error
        else:
            self.reachable = True


def _flushed(pgconn: PGconn) -> PQGen[None]:
    while pgconn.flush():
        yield Wait.W


def _close_result(future: Future[Connection]) -> None:
    """Close a connection that came too late."""
    if future.exception() is None:
        future.result().close()


def _may_pass(error: psycopg.Error) -> bool:
    """Whether the same batch may succeed later: the server or the network failed, not the request."""
    return isinstance(
        error, psycopg.OperationalError | psycopg.InterfaceError | errors.ReadOnlySqlTransaction
    )


_REFUSALS = {
    r'password authentication failed|no password supplied|role ".*" does not exist': (
        "Give a user and password that the server knows, as in postgres://USER:PASSWORD@HOST/DATABASE."
    ),
    r'database ".*" does not exist': "Create the database, or name another one in the URL.",
}
"""The English texts of a server that refuses a connection, and advice. Other languages get general advice."""


def _hint(error: psycopg.Error) -> str:
    if error.sqlstate is None:  # libpq has no code for a connection that the server refused, only its text
        for refusal, hint in _REFUSALS.items():
            if re.search(refusal, str(error)):
                return hint
    if isinstance(error, errors.InsufficientPrivilege):
        return "Grant the user CREATE on the schema, or let the owner of the table open the store once."
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return "It is a standby or read-only: name the primary server."
    if isinstance(error, errors.UntranslatableCharacter):
        return "The encoding of the database lacks this character: use a database with the encoding UTF8."
    if isinstance(error, errors.DiskFull):
        return "Its disk is full; writing works again once there is room."
    if isinstance(error, psycopg.OperationalError):
        return "Check that the server runs there. It is unknown whether a write under way was stored."
    return "The server's log may have more."


def _name(url: str) -> str:
    """Return host, port and database of a URL, without the password."""
    parts = conninfo.conninfo_to_dict(url)
    host = parts.get("host") or "the local socket"
    return f"{host}:{parts.get('port') or 5432}, database {parts.get('dbname') or parts.get('user') or 'of the user'}"
