"""Questions that are not sent yet, and several of them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, overload

from papyra._runtime.asks import ask_many
from papyra._runtime.cell import Cell
from papyra._runtime.envelope import Envelope
from papyra.typing import R

if TYPE_CHECKING:
    from collections.abc import Generator

    from papyra.ref import ActorRef

__all__ = ["Request", "ask_all"]


class Request(Generic[R]):
    """A question to an actor that is not sent yet, as `ActorRef.request` makes it.

    ``await request`` asks, as often as wanted; each time it is an ask of its own.
    """

    __slots__ = ("_message", "_ref", "_timeout")

    def __init__(self, ref: ActorRef[Any, Any], message: object, timeout: float | None) -> None:
        self._ref = ref
        self._message = message
        self._timeout = timeout

    def __await__(self) -> Generator[Any, Any, R]:
        return self._ref.ask(self._message, timeout=self._timeout).__await__()

    def __repr__(self) -> str:
        return f"<Request to {self._ref}>"


@overload
async def ask_all(*requests: Request[R], return_exceptions: Literal[False] = False) -> list[R]: ...
@overload
async def ask_all(*requests: Request[R], return_exceptions: bool) -> list[R | BaseException]: ...
async def ask_all(*requests: Request[Any], return_exceptions: bool = False) -> list[Any]:
    """Send all ``requests``, then wait for the replies; return them in order.

    All of it happens in the caller's task. The first error in order is raised, and the replies to later
    requests are dropped; with ``return_exceptions`` errors are among the results instead. An actor whose wait
    for any of them could never end gets `AskDeadlock` for that one.
    """
    for request in requests:
        if not isinstance(request, Request):
            raise TypeError(f"ask_all() takes requests, as ref.request(message) makes them, not {request!r}")
        if type(request._ref._cell) is not Cell:
            raise TypeError(
                f"ask_all() asks actors of this process, not {request._ref}: ask others in a task group"
            )
    return await ask_many(
        [(request._ref._cell, Envelope(request._message), request._timeout) for request in requests],
        return_exceptions=return_exceptions,
    )
