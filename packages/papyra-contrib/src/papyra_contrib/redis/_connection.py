"""A Redis server: commands and whole transactions, and errors that say what can be done."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from papyra.exceptions import PersistenceError

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import NoPermissionError, OutOfMemoryError
    from redis.retry import Retry
except ImportError as error:
    raise ImportError("the library redis is missing: pip install 'papyra-contrib[redis]'") from error

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

__all__ = ["Argument", "Server"]

Argument: TypeAlias = "str | bytes | int"


class _Commands(Protocol):
    def execute_command(self, *arguments: Argument) -> Any: ...


class _Pipeline(_Commands, Protocol):
    def execute(self) -> list[Any]: ...


class _Client(_Commands, Protocol):
    response_callbacks: dict[str, object]

    def pipeline(self, transaction: bool = True) -> _Pipeline: ...


class Server:
    """Every method blocks, up to ``timeout`` seconds without a reply, and may be called in any thread."""

    def __init__(self, url: str, timeout: float) -> None:
        self._pool = redis.ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] - its options have no types
            url,
            protocol=2,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # A command that got no reply may have been done: who sends it again doubles a record.
            retry=Retry(NoBackoff(), 0),
        )
        self._client = cast("_Client", redis.Redis(connection_pool=self._pool))
        self._client.response_callbacks.clear()  # their results differ between the library's versions
        self.name = _name(self._pool.connection_kwargs)
        self.reachable = True
        self._closed = False
        self._calls = 0
        self._idle = threading.Condition()

    def call(self, *command: Argument) -> Any:
        """Return the reply to a command, as the protocol has it: bytes, integers, lists and None."""
        with self._counted(), self._explained():
            return self._client.execute_command(*command)

    def transaction(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Do all commands or none, with nothing in between; return their replies."""
        with self._counted(), self._explained():
            pipeline = self._client.pipeline(transaction=True)
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute()

    def close(self) -> None:
        """Refuse further calls, wait for those that go on, and release every connection."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: not self._calls)
        self._pool.disconnect()

    @contextmanager
    def _counted(self) -> Generator[None]:
        with self._idle:
            if self._closed:
                raise PersistenceError("the redis backend is closed; open a new one")
            self._calls += 1
        try:
            yield
        finally:
            with self._idle:
                self._calls -= 1
                self._idle.notify_all()

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except redis.RedisError as error:
            self.reachable = not isinstance(error, redis.ConnectionError | redis.TimeoutError)
            text = str(error).rpartition("caused error: ")[2]  # before it stands a piece of what was written
            text = text.rstrip(".")
            raise PersistenceError(f"Redis at {self.name}: {text}; {_hint(error, text)}") from error
        else:
            self.reachable = True


def _hint(error: redis.RedisError, text: str) -> str:
    if isinstance(error, redis.AuthenticationError | NoPermissionError):
        return "give a user and password that may use the stream, as in redis://USER:PASSWORD@HOST"
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return "find out whether the server runs there; a write under way may have been stored, or not"
    if isinstance(error, OutOfMemoryError):
        return "its memory is full; writing works again once there is room"
    if isinstance(error, redis.ReadOnlyError):
        return "it is a replica: give the address of its master"
    if text.startswith("WRONGTYPE"):
        return "another program uses this key: name a stream of its own with stream="
    return "the server's log may tell more; Redis 6.2 or newer is needed"


def _name(options: dict[str, Any]) -> str:
    """Say which server it is, without the password."""
    database = options.get("db", 0)
    if "path" in options:
        return f"{options['path']}, database {database}"
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}, database {database}"
