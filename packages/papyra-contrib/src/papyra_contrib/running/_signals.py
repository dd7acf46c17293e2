"""Signals of the process, counted, because the second and the third one have other meanings."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from papyra.interrupts import interrupt_actor

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType, TracebackType
    from typing import Self

__all__ = ["ReceivedSignals"]

LAST_SIGNAL = 3  # the one that kills


class ReceivedSignals:
    """The signals that arrived while this is entered, in the main thread.

    The first two are counted and wake up `wait`. The third has its default effect: it kills the process
    even if the event loop is blocked, because the handlers are Python's and not the loop's.
    """

    def __init__(self, signals: Iterable[int]) -> None:
        self._signals = tuple(signals)
        self._previous: dict[int, Any] = {}
        self.count = 0
        self.reason = ""

    def __enter__(self) -> Self:
        if self._signals and threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "signals are handled in the main thread only, and this is another thread. Call run() in the "
                "main thread, or pass signals=() and call Shutdown.run() to stop."
            )
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        for number in self._signals:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._restore()
        self._reader.close()
        self._writer.close()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            # None: a handler that was not installed from Python can't be given back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.reason = f"signal {signal.Signals(number).name}"
        if self.count >= LAST_SIGNAL:
            kill_by(number)
        with suppress(
            BlockingIOError
        ):  # the buffer is full, so the reader wakes up anyway, and reads the count
            self._writer.send(b"\0")
        if self.count == LAST_SIGNAL - 1:
            interrupt_actor(frame)  # an actor that computes holds the event loop, which can't cancel it then

    async def wait(self, count: int) -> None:
        """Return when at least ``count`` signals have arrived."""
        while self.count < count:
            await anyio.wait_readable(self._reader)
            with suppress(BlockingIOError):  # another reader took it; the count decides
                self._reader.recv(64)


def kill_by(number: int) -> None:
    """End this process by a signal, as if there were no handler."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    if os.getpid() == 1:
        os._exit(128 + number)  # the kernel spares process 1, as in a container, from its own signals
