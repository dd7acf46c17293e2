"""The sending half of a link: numbers, windows, and what one pass of the event loop sends as one message."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from papyra_contrib.cluster._wire import frames as wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra._runtime._eventloop import Waiter
    from papyra_contrib.cluster._transport import Transport

__all__ = ["MAX_MESSAGE_BYTES", "WINDOW_MESSAGES", "Outbound"]

WINDOW_MESSAGES: Final = 256
CREDIT_EVERY: Final = 128
PROBE_SECONDS: Final = 1.0
MAX_MESSAGE_BYTES: Final = 64 * 1024


class _Window:
    """The messages under way to one target. Without any, there is no window."""

    __slots__ = ("granted", "paused", "since_credit", "touched", "under_way", "waiters")

    def __init__(self, now: float) -> None:
        self.under_way: deque[int] = deque()
        self.waiters: deque[Waiter] = deque()
        self.granted: set[Waiter] = set()  # woken senders that have not sent yet
        self.paused = False
        self.since_credit = 0
        self.touched = now

    def has_room(self) -> bool:
        return not self.paused and len(self.under_way) + len(self.granted) < WINDOW_MESSAGES

    def grant(self) -> None:
        """Wake the oldest that wait, as far as there is room."""
        while self.waiters and self.has_room():
            waiter = self.waiters.popleft()
            if not waiter.done():  # else it was cancelled, and has not noticed yet
                self.granted.add(waiter)
                waiter.set_result(None)


class Outbound:
    """Sends to one peer.

    ``post`` hands a message to the engine, ``soon`` asks for `flush` in the next pass, and ``halfway`` is
    called when half a window to a target was handed over.
    """

    def __init__(
        self,
        post: Callable[[bytes, int], None],
        soon: Callable[[], None],
        make_waiter: Callable[[], Waiter],
        now: Callable[[], float],
        transport: Transport,
        halfway: Callable[[int], None],
    ) -> None:
        self._post = post
        self._soon = soon
        self._make_waiter = make_waiter
        self._now = now
        self._transport = transport
        self._halfway = halfway
        self._frames: list[bytes] = []
        self._bytes = 0
        self._windows: dict[int, _Window] = {}
        self._last = 0
        self.error: Exception | None = None

    @property
    def outstanding(self) -> int:
        """The number of numbered frames that are under way without credit."""
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
        """Wait, first come, first served, until ``target`` is not paused and its window has room."""
        window = self._windows[target]
        waiter = self._make_waiter()
        window.waiters.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter in window.waiters:
                window.waiters.remove(waiter)
            window.granted.discard(waiter)
            self._grant(target, window)
            raise
        window.granted.discard(waiter)
        if self.error is not None:
            raise self.error

    def pause(self, target: int) -> bool:
        """Let senders to ``target`` wait, in their order, until `resume`. Return False if they already do."""
        window = self._windows.get(target)
        if window is None:
            window = self._windows[target] = _Window(self._now())
        was, window.paused = window.paused, True
        return not was

    def resume(self, target: int) -> None:
        """Let senders to ``target`` continue."""
        window = self._windows.get(target)
        if window is not None:
            window.paused = False
            self._grant(target, window)

    def numbered(self, kind: str, target: int, body: bytes, type_name: str, trace: str, corr: int = 0) -> int:
        """Send a tell or an ask; return its number."""
        self._last = number = self._last + 1
        window = self._windows.get(target)
        if window is None:
            window = self._windows[target] = _Window(self._now())
        window.under_way.append(number)
        window.since_credit += 1
        asks_credit = window.since_credit >= CREDIT_EVERY
        if asks_credit:
            window.since_credit = 0
        frame = wire.encode(
            kind,
            target,
            body,
            corr=corr,
            seq=number,
            wants_credit=asks_credit,
            type_name=type_name,
            trace=trace,
        )
        self.add(frame, corr if kind == wire.ASK else 0)
        if asks_credit:
            self.flush()
            self._halfway(target)
        return number

    def add(self, frame: bytes, ask: int = 0) -> None:
        """Queue a frame for this pass of the event loop. An ask flushes the queue."""
        if self.error is not None:
            return
        size = self._bytes + len(frame)
        if (
            size > MAX_MESSAGE_BYTES or size > self._transport.max_frame
        ):  # read here, because it is known only once the transport is open
            self.flush()
            size = len(frame)
        self._frames.append(frame)
        self._bytes = size
        if ask:
            self.flush(ask)
        elif len(self._frames) == 1:
            self._soon()

    def flush(self, ask: int = 0) -> None:
        """Hand over the queued frames as one message."""
        if self._frames:
            message = self._frames[0] if len(self._frames) == 1 else b"".join(self._frames)
            self._frames = []
            self._bytes = 0
            self._post(message, ask)

    def credited(self, target: int, number: int) -> None:
        """Note that all messages up to ``number`` are in the mailbox of ``target``."""
        window = self._windows.get(target)
        if window is None:
            return
        under_way = window.under_way
        while under_way and under_way[0] <= number:
            under_way.popleft()
        window.touched = self._now()
        self._grant(target, window)

    def not_sent(self, target: int) -> None:
        """Give the slot of a message that could not be sent to the next sender."""
        window = self._windows.get(target)
        if window is not None:
            self._grant(target, window)

    def _grant(self, target: int, window: _Window) -> None:
        window.grant()
        if not (window.under_way or window.granted or window.waiters) and self._windows.get(target) is window:
            del self._windows[target]

    def probe(self) -> None:
        """Probe every target that has sent no credit for a second."""
        due = self._now() - PROBE_SECONDS
        for target, window in self._windows.items():
            if window.touched <= due and window.under_way:
                self.add(wire.encode(wire.PROBE, target, seq=self._last))

    def drop_target(self, target: int) -> None:
        """Forget the messages under way to an actor that has ended, and wake its waiting senders."""
        window = self._windows.get(target)
        if window is not None:
            self.credited(target, self._last)

    def close(self, error: Exception) -> int:
        """Stop sending: waiting senders raise ``error``. Return how many frames were under way."""
        self.error = error
        under_way = self.outstanding
        for window in self._windows.values():
            for waiter in window.waiters:
                if not waiter.done():
                    waiter.set_result(None)
            window.waiters.clear()
        self._windows = {}
        self._frames = []
        return under_way
