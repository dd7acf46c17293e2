"""An actor system in a Litestar application."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from litestar import Response, asgi
from litestar.di import Provide

from papyra import ActorSystem  # noqa: TC001 - Litestar reads the annotation of _provide
from papyra_contrib.asgi._config import PapyraASGIConfig
from papyra_contrib.asgi._errors import CONTENT_TYPE, ERRORS, headers_for, problem
from papyra_contrib.asgi._papyra import ASGIPapyra

if TYPE_CHECKING:
    from litestar.plugins import InitPlugin
else:
    try:
        from litestar.plugins import InitPlugin
    except ImportError:  # before Litestar 2.15
        from litestar.plugins import InitPluginProtocol as InitPlugin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from http import HTTPStatus

    from litestar import Request
    from litestar.config.app import AppConfig

    from papyra_contrib.asgi._health import Check
    from papyra_contrib.asgi._lifecycle import Setup
    from papyra_contrib.asgi._scope import ASGIApp

__all__ = ["LitestarPapyra"]


class LitestarPapyra(ASGIPapyra, InitPlugin):
    """`ASGIPapyra` as a plugin of Litestar: ``Litestar(..., plugins=[LitestarPapyra(...)])``.

    Its lifespan comes first, handlers may take ``papyra: ActorSystem``, and the endpoints are routes. With
    ``errors``, `ActorStopped` and `SystemNotRunning` out of a handler become 503, and `AskTimeout` 504.
    """

    def __init__(
        self,
        system_factory: Callable[[], ActorSystem],
        config: PapyraASGIConfig = PapyraASGIConfig(),  # noqa: B008 - it is frozen
        *,
        setup: Setup | None = None,
        checks: Sequence[Check] = (),
        errors: bool = True,
    ) -> None:
        super().__init__(system_factory, config, setup=setup, checks=checks)
        self._errors = errors

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the system to the application's configuration; Litestar calls this."""
        config: Any = app_config  # its containers have types that are partially unknown
        config.lifespan = [self.lifespan, *(config.lifespan or ())]
        config.dependencies = {
            "papyra": Provide(self._provide, sync_to_thread=False),
            **(config.dependencies or {}),
        }
        routes = [_route(path, endpoint) for path, endpoint in self.endpoints.items()]
        config.route_handlers = [*config.route_handlers, *routes]
        if self._errors:
            handlers = {kind: _handler(status) for kind, status in ERRORS.items()}
            config.exception_handlers = {**handlers, **(config.exception_handlers or {})}
        return app_config

    def _provide(self) -> ActorSystem:
        return self.system


def _route(path: str, endpoint: ASGIApp) -> Any:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await endpoint(scope, receive, send)

    return asgi(path, copy_scope=False)(answer)


def _handler(status: HTTPStatus) -> Any:
    def respond(_request: Request[Any, Any, Any], _error: Exception) -> Response[bytes]:
        body = json.dumps(problem(status)).encode()
        return Response(body, status_code=status, media_type=CONTENT_TYPE, headers=headers_for(status))

    return respond
