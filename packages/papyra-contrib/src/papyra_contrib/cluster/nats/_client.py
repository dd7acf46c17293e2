"""The few calls of nats-py that the engine uses, typed; and how a connection is made."""

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
    """A connection."""

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


class ConnectionNews:
    """What a connection tells: whether it is there, and the last error of the server."""

    def __init__(
        self, on_back: Callable[[], Awaitable[None]], on_gone: Callable[[], Awaitable[None]]
    ) -> None:
        self.last_error: Exception | None = None
        self._on_back = on_back
        self._on_gone = on_gone

    async def failed(self, error: Exception) -> None:
        """Keep the error: the client tries again by itself."""
        self.last_error = error
        _logger.debug("NATS: %s", error)

    async def gone(self) -> None:
        """Hand on."""
        await self._on_gone()

    async def back(self) -> None:
        """Hand on."""
        await self._on_back()


async def connect(url: NatsURL, node: str, label: str, news: ConnectionNews) -> Client:
    """Connect, and from then on reconnect without end."""
    made = await nats.connect(  # pyright: ignore[reportUnknownMemberType]  # its options have no types
        **url.options(),
        name=f"papyra {node} {label}",
        inbox_prefix=f"_INBOX_{node}",
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_SECONDS,
        connect_timeout=2,
        ping_interval=PING_SECONDS,
        max_outstanding_pings=MAX_OUTSTANDING_PINGS,
        error_cb=news.failed,
        disconnected_cb=news.gone,
        reconnected_cb=news.back,
    )
    return cast("Client", made)
