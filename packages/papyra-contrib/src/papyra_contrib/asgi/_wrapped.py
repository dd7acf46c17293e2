"""An ASGI application with a system around it: its lifespan, its endpoints, and the system in each scope."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from papyra.plugins import describe
from papyra_contrib.asgi._scope import KEY

if TYPE_CHECKING:
    from papyra_contrib.asgi._papyra import ASGIPapyra
    from papyra_contrib.asgi._scope import ASGIApp, Message, Receive, Scope, Send

__all__ = ["WithEndpoints", "Wrapped"]


class WithEndpoints:
    """Answer the endpoints of a system, and put the system into the scope of all other requests."""

    def __init__(self, app: ASGIApp, *, papyra: ASGIPapyra) -> None:
        self._app = app
        self._papyra = papyra
        self._endpoints = papyra.endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        endpoint = self._endpoints.get(_path(scope)) if scope["type"] == "http" else None
        if endpoint is not None:
            await endpoint(scope, receive, send)
            return
        if scope["type"] in ("http", "websocket") and self._papyra.is_open:
            scope[KEY] = self._papyra.system
        await self._app(scope, receive, send)


def _path(scope: Scope) -> str:
    """Return the path below the mount point of the application."""
    path, root = str(scope["path"]), str(scope.get("root_path") or "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


class Wrapped(WithEndpoints):
    """Run the lifespan of a system around that of an application, if it has one."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, or the lifespan."""
        if scope["type"] == "lifespan":
            await _Lifespan(self._app, self._papyra, scope, receive, send).run()
        else:
            await super().__call__(scope, receive, send)


class _Lifespan:
    """One run of the lifespan protocol: the system opens first and closes last."""

    def __init__(self, app: ASGIApp, papyra: ASGIPapyra, scope: Scope, receive: Receive, send: Send) -> None:
        self._app, self._papyra, self._scope = app, papyra, scope
        self._receive, self._send = receive, send
        self._stack = AsyncExitStack()
        self._startup: Message | None = None
        self._began = self._failed = self._asked_to_stop = False
        self._answer: Message = {"type": "lifespan.shutdown.complete"}

    async def run(self) -> None:
        self._startup = await self._receive()
        try:
            state = await self._stack.enter_async_context(self._papyra.lifespan(self._app))
        except Exception as error:
            await self._send({"type": "lifespan.startup.failed", "message": describe(error)})
            raise
        if "state" in self._scope:
            self._scope["state"].update(state)
        try:
            await self._run_app()
        except BaseException:
            await self._stack.aclose()
            raise
        await self._close()

    async def _run_app(self) -> None:
        try:
            await self._app(self._scope, self._receive_inside, self._send_inside)
        except Exception:
            if self._began or self._failed:
                raise
            # It refuses the lifespan scope, which the specification allows. The system has one anyway.
        if self._failed:
            return
        if not self._began:
            await self._send({"type": "lifespan.startup.complete"})
        if not self._asked_to_stop:
            await self._receive()

    async def _receive_inside(self) -> Message:
        message, self._startup = self._startup, None
        if message is None:
            message = await self._receive()
            self._asked_to_stop = True
        return message

    async def _send_inside(self, message: Message) -> None:
        kind: Any = message["type"]
        if kind == "lifespan.startup.failed":
            self._failed = True
            await self._stack.aclose()
        if kind.startswith("lifespan.shutdown."):
            self._answer = message  # sent when the system is closed
            return
        self._began = self._began or kind == "lifespan.startup.complete"
        await self._send(message)

    async def _close(self) -> None:
        if self._failed:
            return
        try:
            await self._stack.aclose()
        except Exception as error:
            await self._send({"type": "lifespan.shutdown.failed", "message": describe(error)})
            raise
        await self._send(self._answer)
