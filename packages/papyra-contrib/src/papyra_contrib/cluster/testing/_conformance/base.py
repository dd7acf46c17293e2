"""The fixtures that describe the engine under test, and a host that records its calls."""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Protocol

import anyio
import pytest

from papyra_contrib.cluster._transport import Change, Ended, Entry, NodeId, Reset, Synced

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from papyra_contrib.cluster._transport import Transport

__all__ = ["KitBase", "OpenTransport", "RecordingHost"]

_numbers = itertools.count(1)


class OpenTransport(Protocol):
    """Makes a transport for a node of the running test's network. It is not open yet."""

    def __call__(self, node: str) -> Transport:
        """Make the transport."""
        ...


class RecordingHost:
    """Records every call of a transport."""

    def __init__(self) -> None:
        self.frames: list[tuple[NodeId, bytes]] = []
        self.unreachable: list[int] = []
        self.changes: list[Change] = []
        self.lost: list[str] = []
        self.entries: dict[str, Entry] = {}
        self._read: set[str] | None = None

    def on_frame(self, peer: NodeId, frame: bytes) -> None:
        """Keep a message."""
        self.frames.append((peer, frame))

    def on_unreachable(self, ask: int) -> None:
        """Keep an ask that reached nobody."""
        self.unreachable.append(ask)

    def on_change(self, change: Change) -> None:
        """Keep a change, and update the entries."""
        self.changes.append(change)
        match change:
            case Reset():
                self._read = set()
            case Entry():
                self.entries[change.key] = change
                if self._read is not None:
                    self._read.add(change.key)
            case Ended():
                self.entries.pop(change.key, None)
            case Synced():
                if self._read is not None:
                    self.entries = {key: self.entries[key] for key in self.entries if key in self._read}
                self._read = None

    def on_lost(self, reason: str) -> None:
        """Keep the reason."""
        self.lost.append(reason)

    @property
    def is_synced(self) -> bool:
        """Whether the whole registry was read."""
        return self._read is None and any(isinstance(change, Synced) for change in self.changes)

    def values(self) -> dict[str, bytes]:
        """Return the present values by key."""
        return {key: entry.value for key, entry in self.entries.items()}


class KitBase:
    """The protocol between the tests and the engine under test."""

    pytestmark = pytest.mark.anyio

    patience: ClassVar[float] = 30.0
    """Seconds after which a test counts as hanging."""

    pooled_threads: ClassVar[tuple[str, ...]] = ("AnyIO", "Trio")
    """The first letters of the names of pooled threads, which may outlive a transport."""

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        """Run each test on asyncio and, where it is installed, on trio."""
        name = str(request.param)
        if name == "trio":
            pytest.importorskip("trio", reason="trio is not installed; install it to test the engine on it")
        return name

    @pytest.fixture
    def open_transport(self) -> OpenTransport:
        """Give the tests an engine: override this."""
        pytest.fail(
            f"{type(self).__name__} must define the fixture open_transport, which returns a function that makes a "
            "transport for a node, given its name; see the docstring of TransportConformance"
        )

    @pytest.fixture
    def stop_server(self) -> Callable[[], object] | None:
        """Return a function that stops the server, or None if there is no server."""
        return None

    @pytest.fixture
    def start_server(self) -> Callable[[], object] | None:
        """Return a function that starts the server again."""
        return None

    @pytest.fixture
    def stall(self) -> Callable[[str], object] | None:
        """Return a function that cuts a node off, given its name, or None if the engine can't."""
        return None

    @pytest.fixture
    def unstall(self) -> Callable[[str], object] | None:
        """Return a function that reconnects a node, given its name."""
        return None

    @asynccontextmanager
    async def joined(
        self, open_transport: OpenTransport, name: str
    ) -> AsyncGenerator[tuple[Transport, RecordingHost, NodeId]]:
        """Open a transport, wait until it has read the registry, and close it at the end."""
        transport, host = open_transport(name), RecordingHost()
        node = NodeId(name, f"{next(_numbers):012x}")
        with anyio.fail_after(self.patience):
            await transport.open(node, host)
        try:
            await self.until(lambda: host.is_synced)
            yield transport, host, node
        finally:
            with anyio.fail_after(self.patience, shield=True):
                await transport.aclose()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a state, or raise `TimeoutError` after `patience` seconds."""
        with anyio.fail_after(self.patience):
            while not condition():  # noqa: ASYNC110 - any state of any engine
                await anyio.sleep(0.005)
