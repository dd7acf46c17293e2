"""References: the handles through which all code except the actor itself reaches an actor."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from papyra._runtime.asks import ask
from papyra._runtime.delivery.sending import check_send, deliver, halt_send, try_enqueue, yield_to_loop
from papyra._runtime.envelope import Envelope
from papyra._runtime.mailbox import waiting_messages
from papyra._runtime.phases import DRAINING, STOPPED
from papyra._runtime.resources.stash import stashed
from papyra.exceptions import MailboxFull
from papyra.proxy import ActorProxy
from papyra.request import Request
from papyra.typing import M, R

if TYPE_CHECKING:
    from typing import NoReturn

    from papyra._runtime.cell import Cell
    from papyra.address import ActorAddress
    from papyra.typing import AskableBy

__all__ = ["ActorRef"]

_T = TypeVar("_T")


_NEW_BOX: type[deque[Any]] = deque


class ActorRef(Generic[M, R]):
    """A reference to one actor of a running system.

    Immutable, hashable, equal to others of the same system by address.

    ``ActorRef[M, R]`` takes messages ``M`` and replies ``R``, as the actor's ``receive`` declares them. A
    reference stays valid over restarts. After the actor's stop its sends raise `ActorStopped`.
    """

    __slots__ = ("__weakref__", "_cell")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    @property
    def address(self) -> ActorAddress:
        """The actor's address."""
        return self._cell.address

    async def tell(self, message: M) -> None:
        """Put ``message`` in the actor's mailbox and return, without waiting for it to be handled.

        Waits while the mailbox is full. Raises `ActorStopped`, and leaves one dead letter, if the actor is
        stopped or stopping. If cancelled, nothing was sent.
        """
        # The hot path: 0.16 us. `Runtime.sends` counts sends and checks the thread, in one step.
        cell = self._cell
        rt = cell.rt
        for _ in rt.sends:
            break
        else:
            # `halt_send`, without its call for an instrument that traces
            countdown = rt.countdown
            message = halt_send(cell, message) if countdown is None else countdown.tell(cell, message)
            if rt.must_yield:
                await yield_to_loop(rt)
        box: deque[Any] | None = cell.box
        if box is not None:
            if len(box) < cell.limit:
                box.append(message)
                return
        elif cell.limit > 0:
            if not rt.awake:
                rt.wake()  # first: if it raises, nothing was sent
            box = rt.mailbox_pool.pop() if rt.mailbox_pool else _NEW_BOX()
            box.append(message)
            if cell.box is None:  # else a finalizer, which may run at any call, has sent to it
                cell.box = box
                rt.ready.append(cell)
                return
        await deliver(cell, message)

    def tell_nowait(self, message: M) -> None:
        """Put ``message`` in the actor's mailbox without waiting.

        Raises `MailboxFull` if the mailbox has no room that is not promised to earlier senders, and
        `ActorStopped`, with one dead letter, if the actor is stopped or stopping.
        """
        cell = self._cell
        rt = cell.rt
        for _ in rt.sends:
            break
        else:
            check_send(rt)
            if rt.countdown is not None:
                message = rt.countdown.tell(cell, message)
        if not try_enqueue(cell, message):
            raise MailboxFull(cell, cell.capacity)

    @overload
    async def ask(self, message: AskableBy[ActorRef[M, R], _T], *, timeout: float | None = None) -> _T: ...
    @overload
    async def ask(self, message: M, *, timeout: float | None = None) -> R: ...
    async def ask(self, message: Any, *, timeout: float | None = None) -> Any:
        """Send ``message`` and return what ``receive`` returns, or raise the very exception that it raises.

        Raises `ActorStopped` if the actor is stopped, or stops before it replies; `AskTimeout` after
        ``timeout`` seconds; `AskDeadlock` at once if an actor's own code asks and the wait could never end.
        After a time-out or a cancellation, a message whose handling has begun is finished and its reply
        dropped. One that still waits in the mailbox is skipped when its turn comes.
        """
        return await ask(self._cell, Envelope(message), timeout)

    @overload
    def request(
        self, message: AskableBy[ActorRef[M, R], _T], *, timeout: float | None = None
    ) -> Request[_T]: ...
    @overload
    def request(self, message: M, *, timeout: float | None = None) -> Request[R]: ...
    def request(self, message: Any, *, timeout: float | None = None) -> Request[Any]:
        """Return a question that is not sent yet: ``await request`` asks, as often as wanted.

        See `papyra.ask_all`.
        """
        return Request(self, message, timeout)

    def pending(self) -> int:
        """Return how many messages the actor has accepted and not finished; 0 if it is idle.

        Its stash counts, and an actor that is at work, or about to be, counts one more.
        """
        cell = self._cell
        if cell.phase == STOPPED:
            return 0
        return waiting_messages(cell) + stashed(cell) + (cell.box is not None or cell.fresh)

    async def stop(self, *, timeout: float | None = None) -> None:
        """Stop the actor and return when it has stopped; see `ActorSystem.stop`."""
        await self._cell.rt.system.stop(self, timeout=timeout)

    def is_alive(self) -> bool:
        """Return whether the actor accepts messages: it is not stopped and not stopping."""
        cell = self._cell
        return cell.phase < DRAINING and not cell.stopping

    def proxy(self) -> ActorProxy:
        """Return an object whose methods and attributes are the actor's, each use of which is a message."""
        return ActorProxy(self._cell)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActorRef):
            return NotImplemented
        mine, theirs = self._cell, other._cell
        # Systems may have the same id: by default all are "local".
        return mine is theirs or (mine.rt is theirs.rt and mine.id == theirs.id)

    def __hash__(self) -> int:
        return hash((self._cell.rt.system_id, self._cell.id))

    def __repr__(self) -> str:
        return f"<ActorRef {self._cell}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} belongs to a running system and can't be pickled. Send its address, and use "
            "ActorSystem.ref_for(address)"
        )

    def __copy__(self) -> ActorRef[M, R]:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ActorRef[M, R]:
        return self
