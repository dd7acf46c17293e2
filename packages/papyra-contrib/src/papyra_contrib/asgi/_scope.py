"""The types of an ASGI connection, and the place of the actor system in its scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from papyra import ActorSystem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KEY", "ASGIApp", "Message", "Receive", "Scope", "Send", "system_of"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

KEY = "papyra"
"""The key of the system in a scope and in the lifespan state, and its name in ``app.state``."""


def system_of(request_or_scope: Any) -> ActorSystem:
    """Return the actor system of a request, a WebSocket or an ASGI scope.

    Raises `LookupError` if there is none, because the application's lifespan did not run.
    """
    scope: Mapping[str, Any] = getattr(request_or_scope, "scope", request_or_scope)
    app = scope.get("app") or scope.get("litestar_app")
    state: object = scope.get("state")
    places = (scope.get(KEY), _get(state), _get(getattr(app, "state", None)))
    for system in places:
        if isinstance(system, ActorSystem):
            return system
    raise LookupError(
        "this request has no actor system: the lifespan of the application did not run. In tests write "
        "`with TestClient(app) as client:`; with a server, turn its lifespan support on"
    )


def _get(state: Any) -> object:
    """Return the system from a state, which is a mapping or an object."""
    if state is None:
        return None
    try:
        return state[KEY]
    except (KeyError, TypeError):
        return getattr(state, KEY, None)
