"""An actor system in a Ravyn application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lilya.middleware import DefineMiddleware

from papyra_contrib.asgi._middleware import PapyraMiddleware
from papyra_contrib.asgi._papyra import ASGIPapyra
from papyra_contrib.asgi.lilya import open_first

if TYPE_CHECKING:
    from ravyn import Ravyn

__all__ = ["RavynPapyra"]


class RavynPapyra(ASGIPapyra):
    """`ASGIPapyra` for Ravyn."""

    def install(self, app: Ravyn, *, errors: bool = True) -> None:
        """Add the system to an application that may have a lifespan of its own.

        The system opens first and closes last. With ``errors``, `ActorStopped` and `SystemNotRunning` out of
        a handler become 503, and `AskTimeout` 504.
        """
        open_first(self, app.router)
        # Ravyn builds its stack of middlewares when it is made, and refuses to add one after that.
        built: Any = app
        define: Any = DefineMiddleware  # its type wants the parameters that the application fills in
        built.user_middleware.insert(0, define(PapyraMiddleware, papyra=self, errors=errors))
        built.middleware_stack = built.build_middleware_stack()
