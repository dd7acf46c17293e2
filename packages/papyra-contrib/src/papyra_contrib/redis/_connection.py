"""A Redis server: commands, and errors that say what can be done."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from papyra.exceptions import PersistenceError, StoreFull

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        ClusterCrossSlotError,
        ClusterDownError,
        MasterDownError,
        MovedError,
        NoPermissionError,
        OutOfMemoryError,
        TryAgainError,
    )
    from redis.retry import Retry
except ImportError as error:
    raise ImportError("the library redis is missing: pip install 'papyra-contrib[redis]'") from error

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["Argument", "Server"]

Argument: TypeAlias = "str | bytes | int"


class _Client(Protocol):
    response_callbacks: dict[str, object]

    def execute_command(self, *arguments: Argument) -> Any: ...


class Server:
    """Every method blocks, up to ``timeout`` seconds without a reply, and may be called in any thread."""

    def __init__(self, url: str, timeout: float) -> None:
        self._pool = redis.ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] - its options have no types
            url,
            protocol=2,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            # A command without a reply may have been executed. Only a batch with an id may be sent again.
            retry=Retry(NoBackoff(), 0),
        )
        self._client = cast("_Client", redis.Redis(connection_pool=self._pool))
        self._client.response_callbacks.clear()  # their results differ between the library's versions
        self.name = _name(self._pool.connection_kwargs)
        self.timeout = timeout
        self.reachable = True
        self._closed = False
        self._calls = 0
        self._idle = threading.Condition()

    def call(self, *command: Argument) -> Any:
        """Return the reply to a command, as the protocol has it: bytes, integers, lists and None."""
        with self._counted(), self._explained():
            return self._client.execute_command(*command)

    @staticmethod
    def code_of(error: PersistenceError) -> str:
        """Return the first word of the server's error, as in NOPERM or NOGROUP."""
        cause = error.__cause__
        return _code_of(cause, str(cause)) if isinstance(cause, redis.RedisError) else ""

    def close(self) -> None:
        """Refuse further calls, wait for those under way, and release every connection."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: not self._calls)
        self._pool.disconnect()

    @contextmanager
    def _counted(self) -> Generator[None]:
        with self._idle:
            if self._closed:
                raise PersistenceError("the redis backend is closed. Open a new one.")
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
            # The library writes a part of the command before this phrase.
            text = str(error).rpartition("caused error: ")[2].rstrip(".")
            code = _code_of(error, text)
            self.reachable = code not in _AWAY
            if code in _AWAY or code == "READONLY":
                self._forget_idle()
            kind = StoreFull if code in _FULL else PersistenceError
            raise kind(
                f"Redis at {self.name}: {text}; {_HINTS.get(code, _LAST_HINT)}", retry=code in _PASSING
            ) from error
        else:
            self.reachable = True

    def _forget_idle(self) -> None:
        """Close the idle connections: their server may have become a replica."""
        self._pool.disconnect(inuse_connections=False)


def _code_of(error: redis.RedisError, text: str) -> str:
    """Return the code of an error: the first word of the server's text, or a word of this module.

    The text may have come through a script.
    """
    if isinstance(error, redis.AuthenticationError | NoPermissionError):
        return "NOPERM"
    if isinstance(error, redis.BusyLoadingError):
        return "LOADING"
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return "AWAY"
    for kind, code in _CODES_OF_KINDS.items():
        if isinstance(error, kind):
            return code
    match = _CODE.search(text)
    return match[1] if match else ""


_CODES_OF_KINDS = {  # the library cuts the code off the texts of these
    OutOfMemoryError: "OOM",
    redis.ReadOnlyError: "READONLY",
    MovedError: "MOVED",
    TryAgainError: "TRYAGAIN",
    MasterDownError: "MASTERDOWN",  # is a ClusterDownError, too
    ClusterDownError: "CLUSTERDOWN",
    ClusterCrossSlotError: "CROSSSLOT",
}
_CODE = re.compile(
    r"\b(LOADING|READONLY|OOM|MISCONF|BUSY|NOREPLICAS|UNBLOCKED|MASTERDOWN|TRYAGAIN|CLUSTERDOWN|MOVED|CROSSSLOT|WRONGTYPE|NOPERM|NOGROUP|BUSYGROUP)\b"
)
_AWAY = frozenset({"AWAY", "LOADING", "MASTERDOWN", "UNBLOCKED"})
_FULL = frozenset({"OOM", "MISCONF"})
_PASSING = _AWAY | _FULL | {"READONLY", "BUSY", "NOREPLICAS"}
"""Errors after which the same command may succeed later.

The server or the way to it failed, and not the command.
"""

_CLUSTER_HINT = (
    "it is a node of a cluster, and a stream needs a server of its own: name one without cluster mode"
)
_HINTS = {
    "NOPERM": "give a user and password that may use the stream, as in redis://USER:PASSWORD@HOST",
    "AWAY": "find out whether the server runs there; a write under way may have been stored, or not",
    "UNBLOCKED": "it has become a replica while a call waited: give the address of its master",
    "LOADING": "it has just started and reads its data; it answers again after that",
    "MASTERDOWN": "it is a replica without a master: give the address of its master",
    "READONLY": "it is a replica: give the address of its master",
    "OOM": "its memory is full; writing works again once there is room",
    "MISCONF": "it can't save its data; writing works again once its disk has room",
    "BUSY": "a script of another program holds it; it answers again after that",
    "NOREPLICAS": "too few of its replicas answer; writing works again once they do",
    "MOVED": _CLUSTER_HINT,
    "CROSSSLOT": _CLUSTER_HINT,
    "CLUSTERDOWN": _CLUSTER_HINT,
    "TRYAGAIN": _CLUSTER_HINT,
    "WRONGTYPE": "another program uses this key: name a stream of its own with stream=",
}
_LAST_HINT = "the server's log may tell more; Redis 6.2 or newer is needed"


def _name(options: dict[str, Any]) -> str:
    """Say which server it is, without the password."""
    database = options.get("db", 0)
    if "path" in options:
        return f"{options['path']}, database {database}"
    return f"{options.get('host', 'localhost')}:{options.get('port', 6379)}, database {database}"
