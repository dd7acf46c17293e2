"""Start a system before the first request, and close it after the last."""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from papyra.persistence.startup import PersistenceStartupConfig, PersistenceStartupMode, run_startup_check

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from papyra import ActorSystem
    from papyra.persistence.models import PersistenceRecoveryConfig

    Setup: TypeAlias = Callable[[ActorSystem], Awaitable[object] | object]
    Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]

__all__ = ["Lifespan", "Setup", "compose", "papyra_lifecycle"]


@asynccontextmanager
async def papyra_lifecycle(
    system_factory: Callable[[], ActorSystem],
    *,
    setup: Setup | None = None,
    persistence_startup: PersistenceStartupConfig | None = None,
    persistence_recovery: PersistenceRecoveryConfig | None = None,
) -> AsyncGenerator[ActorSystem]:
    """Run a system from ``system_factory`` inside ``async with``.

    ``setup(system)``, plain or async, spawns the actors that must exist before the first request. If it
    raises, the system is closed and the error is raised here. ``persistence_startup`` and
    ``persistence_recovery`` check the store before the start. If an actor ends the system, by a `SystemExit`
    for example, the code that runs here is not cancelled. The end of the ``async with`` reports it as a
    `RuntimeError`.
    """
    system = system_factory()
    try:
        await _check_store(system, persistence_startup, persistence_recovery)
        await system.start()
        if setup is not None:
            result = setup(system)
            if inspect.isawaitable(result):
                await result
        yield system
    finally:
        await _close(system)


async def _check_store(
    system: ActorSystem,
    startup: PersistenceStartupConfig | None,
    recovery: PersistenceRecoveryConfig | None,
) -> None:
    if startup is None and recovery is None:
        return
    if startup is None:
        startup = PersistenceStartupConfig(PersistenceStartupMode.RECOVER, recovery)
    elif recovery is not None and startup.recovery is None:
        startup = PersistenceStartupConfig(startup.mode, recovery, startup.timeout_seconds)
    (await run_startup_check(system.persistence, startup)).raise_if_failed()


async def _close(system: ActorSystem) -> None:
    try:
        with anyio.CancelScope(shield=True):
            await system.aclose()
    except (Exception, anyio.get_cancelled_exc_class(), GeneratorExit):
        raise
    except BaseException as error:
        raise RuntimeError(
            f"the actor system {system.system_id!r} had ended before its close: "
            f"{type(error).__name__} came out of an actor"
        ) from error


def compose(*lifespans: Lifespan) -> Lifespan:
    """Combine several lifespans into one: the first opens first and closes last.

    Their states are merged.
    """

    @asynccontextmanager
    async def composed(app: Any) -> AsyncGenerator[Any]:
        state: dict[str, Any] = {}
        async with AsyncExitStack() as stack:
            for lifespan in lifespans:
                state.update(await stack.enter_async_context(lifespan(app)) or {})
            yield state or None

    return composed
