"""Types for the few calls of nats-py that the engine uses, and the making of a connection."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

try:
    import nats
    import nats.errors
except ImportError as error:
    raise ImportError("the library nats-py is missing: pip install 'papyra-contrib[nats]'") from error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from papyra_contrib.cluster.nats._url import NatsURL

__all__ = ["NATS_ERRORS", "Client", "Message", "connect"]

_logger = logging.getLogger("papyra")

NATS_ERRORS: Final = (nats.errors.Error, OSError, TimeoutError)
RECONNECT_SECONDS: Final = 0.1
PING_SECONDS: Final = 1
MAX_OUTSTANDING_PINGS: Final = 2


class Message(Protocol):
    """A message of the server."""

    subject: str
    data: bytes
    headers: Mapping[str, str] | None


class Client(Protocol):
    """A connection of nats-py, as far as the engine uses it."""

    is_connected: bool
    is_closed: bool
    max_payload: int
    connected_server_version: Any

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, Any] | None = None
    ) -> None: ...
    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,
        *,
        headers: dict[str, Any] | None = None,
    ) -> Message: ...
    async def subscribe(self, subject: str, **options: Any) -> Any: ...
    async def flush(self, timeout: int = 10) -> None: ...
    async def close(self) -> None: ...
    def new_inbox(self) -> str: ...


class ConnectionMonitor:
    """The callbacks of a connection, and its last error."""

    def __init__(
        self,
        on_reconnected: Callable[[], Awaitable[None]],
        on_disconnected: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.last_error: Exception | None = None
        self.on_reconnected = on_reconnected
        self.on_disconnected = on_disconnected

    async def on_error(self, error: Exception) -> None:
        """Keep the error. The client tries again."""
        self.last_error = error
        _logger.debug("NATS: %s", error)


async def connect(url: NatsURL, node: str, label: str, monitor: ConnectionMonitor) -> Client:
    """Connect. From then on, reconnect without limit."""
    client = await nats.connect(  # pyright: ignore[reportUnknownMemberType]  # its options have no types
        **url.options(),
        name=f"papyra {node} {label}",
        inbox_prefix=f"_INBOX_{node}",
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_SECONDS,
        connect_timeout=2,
        ping_interval=PING_SECONDS,
        max_outstanding_pings=MAX_OUTSTANDING_PINGS,
        error_cb=monitor.on_error,
        disconnected_cb=monitor.on_disconnected,
        reconnected_cb=monitor.on_reconnected,
    )
    return cast("Client", client)
