"""An actor system in a Lilya application."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from papyra_contrib.asgi._lifecycle import compose
from papyra_contrib.asgi._middleware import PapyraMiddleware
from papyra_contrib.asgi._papyra import ASGIPapyra

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from lilya.apps import Lilya

    from papyra_contrib.asgi._lifecycle import Lifespan

__all__ = ["LilyaPapyra"]


class LilyaPapyra(ASGIPapyra):
    """`ASGIPapyra` for Lilya."""

    def install(self, app: Lilya, *, errors: bool = True) -> None:
        """Add the system to an application that may have a lifespan of its own.

        The system opens first and closes last. With ``errors``, `ActorStopped` and `SystemNotRunning` out of
        a handler become 503, and `AskTimeout` 504.
        """
        open_first(self, app.router)
        app.add_middleware(PapyraMiddleware, papyra=self, errors=errors)


def open_first(papyra: ASGIPapyra, router: Any) -> None:
    """Put a system's lifespan around that of a router of Lilya, or of a framework that is built on it."""
    router.lifespan_context = compose(papyra.lifespan, _as_lilya_calls_it(router.lifespan_context))


def _as_lilya_calls_it(lifespan: Any) -> Lifespan:
    """Return a lifespan that takes the application: Lilya calls one that is a bound method without it."""
    if not inspect.ismethod(lifespan):
        return lifespan  # type: ignore[no-any-return]  # it is what Lilya takes

    def called(_app: Any) -> AbstractAsyncContextManager[Any]:
        return lifespan()  # type: ignore[no-any-return]  # as above

    return called
