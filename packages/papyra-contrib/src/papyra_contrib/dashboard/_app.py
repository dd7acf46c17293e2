"""The dashboard as an ASGI application."""

from __future__ import annotations

import logging
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from papyra import ActorSystem, __version__
from papyra_contrib._printable import printable
from papyra_contrib.dashboard._poller import Poller
from papyra_contrib.dashboard._renderer import Renderer, message_page
from papyra_contrib.dashboard._security import HEADERS, LOCAL_HOSTS, Gate, Open, Refused, check_arguments
from papyra_contrib.dashboard._source import Source, SourceGone, SourceRefused
from papyra_contrib.dashboard._system_sources import LiveSource
from papyra_contrib.dashboard._view_models import VIEWS, Parameters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

__all__ = ["Dashboard"]

_logger = logging.getLogger("papyra")

ACTIONS = ("stop", "compact", "audit")
STATIC = {
    "papyra.css": "text/css; charset=utf-8",
    "papyra.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Dashboard:
    """Show what a system does, as an ASGI application to mount.

    ``system`` is an `ActorSystem`, or a function that returns it if it is made later, or anew. While the
    function raises `LookupError` there is no system, and the answer is 503. Another `Source` shows a system
    of another process or a record. A visitor needs the ``token``, as ``?token=`` once and from then on as a
    cookie; or ``authorize(request)`` has to return True (it may be async); with both, both count. Without
    either this raises `ValueError`, except with ``authorize=Dashboard.OPEN``. ``allowed_hosts`` are the names
    that the application is reached by, ``"*"`` for any; by default those of this machine alone.

    With ``actions=True`` pages can stop an actor, compact the store and audit; each action is logged. With
    ``payloads=True`` the messages of dead letters are shown. It needs no lifespan, and asks the system once a
    second at most, while a page is open.
    """

    OPEN: ClassVar[Open] = Open()
    """Lets everybody in who reaches the application."""

    def __init__(
        self,
        system: ActorSystem | Source | Callable[[], ActorSystem],
        *,
        token: str | None = None,
        authorize: Callable[[Request], bool | Awaitable[bool]] | Open | None = None,
        actions: bool = False,
        payloads: bool = False,
        allowed_hosts: Iterable[str] = LOCAL_HOSTS,
    ) -> None:
        check_arguments(token, authorize)
        self._gate = Gate(token, authorize, allowed_hosts)
        self._actions = actions
        self._payloads = payloads
        self._find: Callable[[], ActorSystem | Source] = (
            system if callable(system) else partial(_same, system)
        )
        self._system: ActorSystem | Source | None = None
        self._poller: Poller | None = None
        self._renderer: Renderer | None = None
        if not callable(system):
            self._current()

    def _current(self) -> tuple[Poller, Renderer]:
        """Return what looks at the system of now: an application may make another one at each start."""
        try:
            system = self._find()
        except LookupError:
            raise Refused(503, "No actor system runs now: it is about to start, or it has ended.") from None
        if self._poller is None or self._renderer is None or system is not self._system:
            source = (
                LiveSource(system, payloads=self._payloads) if isinstance(system, ActorSystem) else system
            )
            self._system, self._poller = system, Poller(source)
            self._renderer = Renderer(self._poller)
        return self._poller, self._renderer

    @property
    def looks(self) -> int:
        """How many times the source was asked for its numbers."""
        return self._poller.looks if self._poller is not None else 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await _no_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            request = Request(scope, receive)
            response = await self._answer(request)
            for name, value in HEADERS.items():
                response.headers[name] = value
            response.headers.setdefault("cache-control", "no-store")
            await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        place = _place(request.scope)
        try:
            self._gate.check_place(request)
            if place is None:
                return RedirectResponse(f"{request.scope.get('root_path', '')}/")
            if "token" in request.query_params and place == "":
                return self._signed_in(request)
            if place.startswith("static/"):
                return _static(request, place.removeprefix("static/"))
            await self._gate.check_person(request)
            if place.startswith("actions/"):
                return await self._act(request, place.removeprefix("actions/"))
            return await self._view(request, place or "overview")
        except Refused as error:
            if request.method == "POST":
                return JSONResponse({"error": error.text}, error.status, _headers_of(error))
            page = message_page(_TITLES[error.status], error.text)
            return HTMLResponse(page, error.status, _headers_of(error))

    def _signed_in(self, request: Request) -> Response:
        """Exchange the token of a printed address for a cookie.

        The answer is a page, and not a redirect: a browser that came from another site would not send a
        strict cookie with it.
        """
        if not self._gate.is_token(request.query_params["token"]):
            raise Refused(401, "This token is not that of this dashboard. Was the dashboard restarted?")
        response = HTMLResponse(message_page("Signed in", ""), headers={"refresh": "0; url=./"})
        response.set_cookie(
            self._gate.cookie_name,
            self._gate.cookie,
            path=f"{request.scope.get('root_path', '')}/",
            httponly=True,
            secure=request.url.scheme == "https",
            samesite="strict",
        )
        return response

    async def _view(self, request: Request, place: str) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise Refused(405, "Only GET is possible here.")
        parameters = dict(request.query_params)
        live = place == "live"
        view = parameters.pop("view", "") if live else place
        if view not in VIEWS:
            raise Refused(404, "This page does not exist.")
        _, renderer = self._current()
        rendered = await renderer.view(view, Parameters(parameters))
        if live:
            return HTMLResponse(await renderer.fragment(rendered))
        parameters["view"] = view
        page = await renderer.page(
            view,
            rendered,
            parameters=parameters,
            find=parameters.get("find", ""),
            action_token=self._gate.action_token if self._actions else "",
            version=__version__,
        )
        return HTMLResponse(page)

    async def _act(self, request: Request, action: str) -> Response:
        if not self._actions or action not in ACTIONS:
            raise Refused(404, "This action does not exist here.")
        if request.method != "POST":
            raise Refused(405, "An action is sent as POST.", allow="POST")
        self._gate.check_action(request)
        source = self._current()[0].source
        actor = request.query_params.get("actor", "")[:300]
        client = request.client.host if request.client is not None else "unknown"
        what = printable(f"{action} {actor}".rstrip())
        _logger.warning("dashboard: %s, asked for by %s", what, client)
        try:
            done = await source.act(action, actor)
        except (SourceRefused, SourceGone) as error:
            _logger.warning("dashboard: %s failed: %s", what, printable(str(error)))
            return JSONResponse({"error": printable(str(error))}, 409)
        _logger.warning("dashboard: %s", printable(done))
        return JSONResponse({"done": printable(done)})

    async def aclose(self) -> None:
        """Close the source; a dashboard on an `ActorSystem` of this process has nothing to close."""
        if self._poller is not None:
            await self._poller.source.aclose()


_TITLES = {
    400: "Unknown host",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible",
    503: "Not running",
}


def _same(system: ActorSystem | Source) -> ActorSystem | Source:
    return system


def _headers_of(error: Refused) -> dict[str, str]:
    if error.status == 405:
        return {"allow": error.allow}
    return {"www-authenticate": "Bearer"} if error.status == 401 else {}


def _place(scope: MutableMapping[str, Any]) -> str | None:
    """Return the path below the place where the dashboard is mounted; None for the place without a slash."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path.removeprefix("/") if path.startswith("/") else None


def _static(request: Request, name: str) -> Response:
    if name not in STATIC:
        raise Refused(404, "This file does not exist.")
    if request.method not in ("GET", "HEAD"):
        raise Refused(405, "Only GET is possible here.")
    content = files("papyra_contrib.dashboard").joinpath("static", name).read_bytes()
    # The address has the version in it, so a file never changes under its address.
    return Response(content, media_type=STATIC[name], headers={"cache-control": "public, max-age=86400"})


async def _no_lifespan(receive: Any, send: Any) -> None:
    """Answer a server's lifespan events: there is nothing to start."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
