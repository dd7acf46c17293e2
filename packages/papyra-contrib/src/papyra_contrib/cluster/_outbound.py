"""The sending half of a link: numbers, windows, and what one pass of the event loop sends as one message."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from papyra_contrib.cluster import _frames as wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra._runtime._eventloop import Waiter

__all__ = ["MAX_MESSAGE_BYTES", "WINDOW_MESSAGES", "Outbound"]

WINDOW_MESSAGES: Final = 256
CREDIT_EVERY: Final = 128
PROBE_SECONDS: Final = 1.0
MAX_MESSAGE_BYTES: Final = 64 * 1024


class _Window:
    """The messages under way to one target. It is forgotten when nothing is."""

    __slots__ = ("granted", "since_bang", "touched", "under_way", "waiters")

    def __init__(self, now: float) -> None:
        self.under_way: deque[int] = deque()
        self.waiters: deque[Waiter] = deque()
        self.granted = 0
        self.since_bang = 0
        self.touched = now

    def has_room(self) -> bool:
        return len(self.under_way) + self.granted < WINDOW_MESSAGES

    def grant(self) -> None:
        """Wake the oldest that wait, as far as there is room."""
        while self.waiters and self.has_room():
            waiter = self.waiters.popleft()
            if not waiter.done():
                self.granted += 1
                waiter.set_result(None)


class Outbound:
    """Sends to one peer.

    ``post`` hands a message of at most ``max_bytes`` to the engine.
    ``soon`` asks for `flush` in the next pass.
    """

    def __init__(
        self,
        post: Callable[[bytes, int], None],
        soon: Callable[[], None],
        make_waiter: Callable[[], Waiter],
        now: Callable[[], float],
        max_bytes: int,
    ) -> None:
        self._post = post
        self._soon = soon
        self._make_waiter = make_waiter
        self._now = now
        self._max_bytes = max_bytes
        self._frames: list[bytes] = []
        self._bytes = 0
        self._windows: dict[int, _Window] = {}
        self._last = 0
        self.error: Exception | None = None
        self.pauses = False
        """Whether half a window was just handed over: the next sender lets the event loop write it first."""

    @property
    def outstanding(self) -> int:
        """How many numbered frames are under way without credit."""
        return sum(len(window.under_way) for window in self._windows.values())

    @property
    def idle(self) -> bool:
        """Whether nothing is under way, so that there is nothing to probe."""
        return not self._windows

    def open_for(self, target: int) -> bool:
        """Whether a message to ``target`` may go now."""
        window = self._windows.get(target)
        return window is None or (window.has_room() and not window.waiters)

    async def admit(self, target: int) -> None:
        """Wait until ``target`` is fewer than 256 messages behind, first come, first served."""
        window = self._windows[target]
        waiter = self._make_waiter()
        window.waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter in window.waiters:
                window.waiters.remove(waiter)
            else:
                window.granted -= 1
                window.grant()
            raise
        window.granted -= 1
        if self.error is not None:
            raise self.error

    def numbered(self, kind: str, target: int, body: bytes, type_name: str, trace: str, corr: int = 0) -> int:
        """Send a tell or an ask; return its number."""
        self._last = number = self._last + 1
        window = self._windows.get(target)
        if window is None:
            window = self._windows[target] = _Window(self._now())
        window.under_way.append(number)
        window.since_bang += 1
        bang = window.since_bang >= CREDIT_EVERY
        if bang:
            window.since_bang = 0
            self.pauses = True
        frame = wire.encode(
            kind,
            target,
            body,
            corr=corr,
            seq=number,
            wants_credit=bang,
            type_name=type_name,
            trace=trace,
        )
        self.add(frame, corr if kind == wire.ASK else 0)
        if bang:
            self.flush()
        return number

    def add(self, frame: bytes, ask: int = 0) -> None:
        """Send a frame with what else goes in this pass; an ask ends the message."""
        if self.error is not None:
            return
        size = len(frame)
        if self._bytes + size > self._max_bytes:
            self.flush()
        self._frames.append(frame)
        self._bytes += size
        if ask:
            self.flush(ask)
        elif len(self._frames) == 1:
            self._soon()

    def flush(self, ask: int = 0) -> None:
        """Hand over what waits as one message."""
        if self._frames:
            message = self._frames[0] if len(self._frames) == 1 else b"".join(self._frames)
            self._frames = []
            self._bytes = 0
            self._post(message, ask)

    def credited(self, target: int, number: int) -> None:
        """Take note that all up to ``number`` is in the mailbox of ``target``."""
        window = self._windows.get(target)
        if window is None:
            return
        under_way = window.under_way
        while under_way and under_way[0] <= number:
            under_way.popleft()
        window.touched = self._now()
        window.grant()
        if not under_way and not window.granted and not window.waiters:
            del self._windows[target]

    def probe(self) -> None:
        """Ask after every target that has had no credit for a second."""
        due = self._now() - PROBE_SECONDS
        for target, window in self._windows.items():
            if window.touched <= due and window.under_way:
                self.add(wire.encode(wire.PROBE, target, seq=self._last))

    def drop_target(self, target: int) -> None:
        """Forget what is under way to an actor that has ended, and wake those that wait."""
        window = self._windows.get(target)
        if window is not None:
            self.credited(target, self._last)

    def close(self, error: Exception) -> int:
        """Send nothing any more: those that wait raise ``error``. Return how many frames were under way."""
        self.error = error
        under_way = self.outstanding
        for window in self._windows.values():
            for waiter in window.waiters:
                if not waiter.done():
                    window.granted += 1
                    waiter.set_result(None)
            window.waiters.clear()
        self._windows = {}
        self._frames = []
        return under_way
