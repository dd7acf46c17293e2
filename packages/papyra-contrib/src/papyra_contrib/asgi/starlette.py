"""An actor system in a Starlette application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from papyra_contrib.asgi._lifecycle import compose
from papyra_contrib.asgi._middleware import PapyraMiddleware
from papyra_contrib.asgi._papyra import ASGIPapyra

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["StarlettePapyra"]


class StarlettePapyra(ASGIPapyra):
    """`ASGIPapyra` for Starlette."""

    def install(self, app: Starlette, *, errors: bool = True) -> None:
        """Add the system to an application that may have a lifespan of its own.

        The system opens first and closes last. With ``errors``, `ActorStopped` and `SystemNotRunning` out of
        a handler become 503, and `AskTimeout` 504.
        """
        router: Any = app.router  # its types know lifespans with a state and without, none that may have one
        router.lifespan_context = compose(self.lifespan, router.lifespan_context)
        app.add_middleware(PapyraMiddleware, papyra=self, errors=errors)
