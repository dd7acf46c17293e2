"""An actor system in a FastAPI application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, HTTPException
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads the annotations

from papyra import ActorRef, ActorSystem
from papyra_contrib.asgi._scope import system_of
from papyra_contrib.asgi.starlette import StarlettePapyra

if TYPE_CHECKING:
    from papyra import Actor

__all__ = ["ActorOf", "FastAPIPapyra", "System"]


class FastAPIPapyra(StarlettePapyra):
    """`ASGIPapyra` for FastAPI."""


async def _system(connection: HTTPConnection) -> ActorSystem:
    return system_of(connection)


System = Annotated[ActorSystem, Depends(_system)]
"""The type of a parameter that gets the application's system, in HTTP and WebSocket handlers."""


def ActorOf(target: str | type[Actor]) -> Any:  # noqa: N802 - used in annotations, as Depends is
    """Return a dependency that makes a parameter the reference to an actor, by its name or class.

    ``orders: Annotated[ActorRef[Place, int], ActorOf("orders")]``. Without such an actor, the answer is 503.
    A plain ``def`` handler runs in a thread; write ``anyio.from_thread.run(orders.ask, message)``.
    """

    async def find(connection: HTTPConnection) -> ActorRef[Any, Any]:
        system = system_of(connection)
        if isinstance(target, str):
            ref = system.ref_for_name(target)
        else:
            ref = next(iter(system.refs_by_type(target)), None)
        if ref is None:
            raise HTTPException(503, headers={"Retry-After": "1"})
        return ref

    return Depends(find)
