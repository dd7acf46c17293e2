"""The three ways to add an actor system to an ASGI application."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from papyra_contrib.asgi._config import PapyraASGIConfig
from papyra_contrib.asgi._endpoints import answer_not_running, answer_readyz, livez, metrics
from papyra_contrib.asgi._health import Health
from papyra_contrib.asgi._lifecycle import papyra_lifecycle
from papyra_contrib.asgi._scope import KEY
from papyra_contrib.asgi._wrapped import Wrapped

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from papyra import ActorSystem
    from papyra_contrib.asgi._health import Check
    from papyra_contrib.asgi._lifecycle import Setup
    from papyra_contrib.asgi._scope import ASGIApp, Receive, Scope, Send

__all__ = ["ASGIPapyra", "ASGIPapyraLifespan"]


class ASGIPapyraLifespan:
    """A lifespan for frameworks, which call it with the application or without."""

    def __init__(self, papyra: ASGIPapyra) -> None:
        self._papyra = papyra

    def __call__(self, app: Any = None) -> AbstractAsyncContextManager[dict[str, ActorSystem]]:
        """Return an async context manager that yields the lifespan state."""
        return self._papyra._open(app)


class ASGIPapyra:
    """An actor system for an ASGI application: started before its first request, closed after its last.

    ``system_factory`` makes the system; it is called at each start. ``setup(system)``, plain or async, spawns
    the actors that must exist before the first request. If it raises, the application does not start.
    ``checks`` are the application's own checks for ``/readyz``.

    Pass `lifespan` to a framework, or `wrap` any ASGI application. The adapters for frameworks have
    ``install(app)``, for applications with a lifespan of their own.
    """

    def __init__(
        self,
        system_factory: Callable[[], ActorSystem],
        config: PapyraASGIConfig = PapyraASGIConfig(),  # noqa: B008 - it is frozen
        *,
        setup: Setup | None = None,
        checks: Sequence[Check] = (),
    ) -> None:
        if not callable(system_factory):
            raise TypeError(
                f"system_factory must be a function that returns an ActorSystem, not {system_factory!r}; write "
                "lambda: ActorSystem(...), because a closed system can't be started again"
            )
        self.system_factory = system_factory
        self.config = config
        self._setup = setup
        self._checks = tuple(checks)
        self._system: ActorSystem | None = None
        self._health: Health | None = None

    @property
    def lifespan(self) -> ASGIPapyraLifespan:
        """The value of ``lifespan=`` for frameworks.

        It yields ``{"papyra": system}`` and sets ``app.state.papyra``.
        """
        return ASGIPapyraLifespan(self)

    @property
    def is_open(self) -> bool:
        """Whether the lifespan is running."""
        return self._system is not None

    @property
    def system(self) -> ActorSystem:
        """The system while the lifespan is running, otherwise a `LookupError`."""
        if self._system is None:
            raise LookupError(
                "there is no actor system yet: the lifespan of the application did not run. In tests write "
                "`with TestClient(app) as client:`; with a server, turn its lifespan support on"
            )
        return self._system

    @property
    def endpoints(self) -> Mapping[str, ASGIApp]:
        """The endpoints by their paths, as ASGI applications."""
        config = self.config
        endpoints: dict[str | None, ASGIApp] = {
            config.livez_path: self._livez,
            config.readyz_path: self._readyz,
            config.health_path: self._readyz,
            config.metrics_path: self._metrics,
        }
        return {path: endpoint for path, endpoint in endpoints.items() if path is not None}

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return ``app`` with the system around it and the endpoints before it.

        It need not support lifespans.
        """
        return Wrapped(app, papyra=self)

    async def _livez(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._system is None:
            await answer_not_running(scope, send)
        else:
            await livez(scope, receive, send, system=self._system)

    async def _readyz(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._system is None or self._health is None:
            await answer_not_running(scope, send)
        else:
            await answer_readyz(scope, send, self._system, self._health)

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._system is None:
            await answer_not_running(scope, send)
        else:
            await metrics(scope, receive, send, system=self._system, format=self.config.metrics_format)

    @asynccontextmanager
    async def _open(self, app: Any) -> AsyncGenerator[dict[str, ActorSystem]]:
        if self._system is not None:
            raise RuntimeError("the lifespan of this ASGIPapyra runs already; make one for each application")
        opening = papyra_lifecycle(
            self.system_factory,
            setup=self._setup,
            persistence_startup=self.config.persistence_startup,
            persistence_recovery=self.config.persistence_recovery,
        )
        async with opening as system:
            self._health = Health(system, self._checks, self.config.readyz)
            self._system = system
            state = getattr(app, "state", None)
            if state is not None:
                setattr(state, KEY, system)
            try:
                yield {KEY: system}
            finally:
                self._system = None
