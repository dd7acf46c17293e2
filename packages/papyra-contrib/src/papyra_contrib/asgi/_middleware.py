"""The middleware that the adapters for frameworks put before an application's routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from papyra_contrib.asgi._errors import ErrorResponses
from papyra_contrib.asgi._wrapped import WithEndpoints

if TYPE_CHECKING:
    from papyra_contrib.asgi._papyra import ASGIPapyra
    from papyra_contrib.asgi._scope import ASGIApp, Receive, Scope, Send

__all__ = ["PapyraMiddleware"]


class PapyraMiddleware:
    """Endpoints, the system in each scope, and with ``errors`` the responses to errors of actors."""

    def __init__(self, app: ASGIApp, papyra: ASGIPapyra, errors: bool) -> None:
        self._app = WithEndpoints(ErrorResponses(app) if errors else app, papyra=papyra)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        await self._app(scope, receive, send)
