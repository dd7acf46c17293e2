"""Calling hooks, the user's and plugins', without letting one of them harm anything."""

from __future__ import annotations

import inspect
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import anyio

from papyra.exceptions import PluginError
from papyra.hooks import HOOK_NAMES
from papyra.plugins import describe, find_plugins

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from papyra._runtime.loops import Loop, Waiter
    from papyra.hooks import SystemHooks

__all__ = ["Callbacks"]

_logger = logging.getLogger("papyra")

MAX_PENDING = 10_000
"""How many async hooks may wait for their turn; one more is dropped, counted and logged."""


class Callbacks:
    """The hooks of one system. Plain ones run on the spot, async ones in order in a task of their own."""

    def __init__(self, hooks: SystemHooks | None, on_dead_letter: Callable[[Any], Any] | None) -> None:
        self._targets: dict[str, list[Callable[[Any], Any]]] = {name: [] for name in HOOK_NAMES}
        for name in HOOK_NAMES:
            hook = getattr(hooks, name, None)
            if hook is not None:
                self._targets[name].append(hook)
        if on_dead_letter is not None:
            self._targets["on_dead_letter"].append(on_dead_letter)
        self._pending: deque[tuple[str, Awaitable[object]]] = deque()
        self._loop: Loop | None = None
        self.fatal: Callable[[BaseException], None] | None = None
        self._running = False
        self._idle: list[Waiter] = []
        self._scope: anyio.CancelScope | None = None
        self._has_plugins = False
        self.dropped = 0

    def add_plugins(self) -> None:
        """Find hook implementations of other distributions, once; broken ones are logged and left out."""
        if self._has_plugins:
            return
        self._has_plugins = True
        plugins = find_plugins("papyra.hooks")
        if not plugins:
            return
        # Here and not above: most systems have no hook plugins, and need no pluggy.
        import pluggy

        from papyra import hookspecs

        manager = pluggy.PluginManager("papyra")
        manager.add_hookspecs(hookspecs)
        usable: list[object] = []
        for plugin in plugins.values():
            try:
                loaded = plugin.load()
                manager.register(loaded, name=f"{plugin.distribution}:{plugin.name}")
            except PluginError as error:
                if not plugin.disabled:
                    _logger.warning("%s", error)
                continue
            except Exception as error:  # noqa: BLE001 - pluggy reads every attribute of a stranger's object
                _logger.warning("the hook plugin %r can't be used: %s", plugin.name, describe(error))
                continue
            usable.append(loaded)
        for loaded in usable:  # now that all are known: each caller leaves out all others
            self._add(manager, loaded)

    def _add(self, manager: Any, loaded: object) -> None:
        # Each plugin is called by itself: pluggy's own call of all of them stops at the first that raises.
        others = [other for other in manager.get_plugins() if other is not loaded]
        implemented = {caller.name for caller in manager.get_hookcallers(loaded) or ()}
        for name in HOOK_NAMES:
            if name not in implemented:
                continue
            caller = manager.subset_hook_caller(name, remove_plugins=others)
            argument = _ARGUMENTS[name]

            def call(value: object, caller: Any = caller, argument: str = argument) -> object:
                results = cast("list[object]", caller(**{argument: value}))
                return results[0] if results else None

            self._targets[name].append(call)

    def wants(self, name: str) -> bool:
        """Whether anybody listens."""
        return bool(self._targets[name])

    def bind(self, loop: Loop) -> None:
        """Say where async hooks run."""
        self._loop = loop

    def call(self, name: str, value: object) -> None:
        """Call every hook of this name."""
        for target in self._targets[name]:
            try:
                result = target(value)
            except Exception:
                _logger.exception("the hook %s raised; the system goes on", name)
                continue
            except BaseException as error:
                # Not into the runtime, which is in the middle of a step: it ends the system from the outside.
                if self.fatal is None:
                    raise
                self.fatal(error)
                continue
            if inspect.isawaitable(result):
                self._later(name, result)

    def _later(self, name: str, result: Awaitable[object]) -> None:
        if len(self._pending) >= MAX_PENDING or self._loop is None:
            self.dropped += 1
            if inspect.iscoroutine(result):
                result.close()
            if self.dropped & (self.dropped - 1) == 0:  # 1, 2, 4, 8, ...: the log must not flood either
                _logger.error("hooks are slower than what they are told: %d calls dropped", self.dropped)
            return
        self._pending.append((name, result))
        if not self._running:
            self._running = True
            self._loop.spawn(self._run, lambda: "papyra hooks")

    async def _run(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                while self._pending:
                    name, result = self._pending.popleft()
                    try:
                        await result
                    except Exception:
                        _logger.exception("the hook %s raised; the system goes on", name)
                    except anyio.get_cancelled_exc_class():
                        raise
                    except BaseException as error:  # noqa: BLE001 - ends the system, as out of a plain hook
                        if self._loop is not None:
                            self._loop.fatal(error)
        finally:
            self._running = False
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    async def drain(self) -> None:
        """Return when no async hook waits any more."""
        if self._running and self._loop is not None:
            waiter = self._loop.waiter()
            self._idle.append(waiter)
            await waiter

    def give_up(self) -> None:
        """Cancel the async hook that runs, and forget those that wait."""
        if not self._running:
            return
        pending, self._pending = self._pending, deque()
        self.dropped += 1 + len(pending)
        _logger.error("async hooks did not end in time: %d calls given up at the close", 1 + len(pending))
        for _, result in pending:
            if inspect.iscoroutine(result):
                result.close()
        if self._scope is not None:
            self._scope.cancel()


_ARGUMENTS = {
    "on_event": "event",
    "on_dead_letter": "dead_letter",
    "on_failure": "failure",
    "on_audit": "report",
    "on_persistence_scan": "report",
    "on_persistence_recovery": "report",
    "on_persistence_error": "error",
}
