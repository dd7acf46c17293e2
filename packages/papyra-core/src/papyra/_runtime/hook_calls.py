"""Calls of hooks: the user's and those of plugins.

A hook that fails or is slow harms nothing and is counted.
"""

from __future__ import annotations

import time
from collections import deque
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread

from papyra._runtime.containment.log import LOG, log_error
from papyra._runtime.containment.scope_guard import ScopeGuard
from papyra._runtime.containment.user_values import close_coroutine, is_a, is_awaitable
from papyra.exceptions import PluginError
from papyra.hook_discovery import find_hooks
from papyra.hooks import HOOK_NAMES
from papyra.plugins import describe, find_plugins

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from papyra._runtime._eventloop import Loop, Waiter
    from papyra.plugins import Plugin

__all__ = ["HookCalls", "Observer"]

MAX_NESTED_CALLS = 8
"""Calls of an observer that lead to one another. An ``on_dead_letter`` that tells a stopped actor causes one
dead letter after the other."""

_NESTED: ContextVar[int] = ContextVar("papyra_nested_calls", default=0)
"""How many async calls of hooks have led to the code that runs."""

MAX_PENDING_CALLS = 10_000
"""Async calls of an observer that may wait; further calls are dropped."""

SLOW_SECONDS = 0.1  # a plain hook that holds the event loop for longer is logged
LATE_SECONDS = 60.0  # an async hook that takes longer is logged if other calls wait behind it


class Observer:
    """An object with hooks.

    Plain hooks run at once; async ones run in order, in a task of the observer's own. Each kind of problem is
    logged once and then counted.
    """

    def __init__(self, name: str, fatal: Callable[[BaseException], None]) -> None:
        self.name = name
        self.failed = 0
        self.slow = 0
        self.dropped = 0
        self._nested = 0  # plain calls that run, each inside of the one before
        self.fatal = fatal
        self._logged: set[str] = set()
        self._pending: deque[tuple[str, Awaitable[object], int]] = deque()
        self._loop: Loop | None = None
        self._running = False
        self._call_began: float | None = None
        self._scope: anyio.CancelScope | None = None
        self._idle: list[Waiter] = []

    @property
    def pending(self) -> int:
        """The number of async calls that have not ended, including the running one."""
        return len(self._pending) + (self._call_began is not None)

    def call(self, hook: str, call: Callable[[Any], object], value: object, loop: Loop | None) -> None:
        """Call a hook. An async hook only starts here and runs later, on ``loop``."""
        nested = self._nested + _NESTED.get()
        if nested >= MAX_NESTED_CALLS:
            self.dropped += 1
            self.log_once(
                "nested", "%s causes in %s what it is called for, again and again: calls are dropped", hook
            )
            return
        began = time.perf_counter()
        result = None
        awaits = False
        self._nested += 1
        try:
            # In a copy of the context variables: what a hook sets must reach neither an actor nor a sender.
            result = copy_context().run(call, value)
            awaits = is_awaitable(result)
        except KeyboardInterrupt as error:
            self.fatal(error)  # Ctrl-C comes anywhere
        except BaseException as error:  # noqa: BLE001 - user code: SystemExit and the like must not end the system
            self._count_failure(hook, error)
        finally:
            self._nested -= 1
        took = time.perf_counter() - began
        if took > SLOW_SECONDS:
            self.slow += 1
            self.log_once(
                "slow", "%s kept the event loop for %.2f s in %s; make it async or quick", took, hook
            )
        if awaits:
            self._later(hook, cast("Awaitable[object]", result), loop, nested + 1)

    def _later(self, hook: str, result: Awaitable[object], loop: Loop | None, nested: int) -> None:
        if loop is None or len(self._pending) >= MAX_PENDING_CALLS:
            self._drop(result)
            self.log_once("late", "%s is too slow: calls of %s are dropped", hook)
            return
        self._pending.append((hook, result, nested))
        if not self._running:
            self._loop = loop
            self._start()
        elif self._call_began is not None and time.monotonic() - self._call_began > LATE_SECONDS:
            self.log_once("late", "%s has not ended an async call for over %.0f s", LATE_SECONDS)

    async def _run(self) -> None:
        guard: ScopeGuard | None = None
        try:
            with anyio.CancelScope() as self._scope:
                assert self._loop is not None  # noqa: S101 - `_later` set it
                guard = ScopeGuard(self._loop, f"a hook of {self.name}")
                while self._pending and not guard.spoilt:
                    hook, result, nested = self._pending.popleft()
                    _NESTED.set(nested)
                    self._call_began = time.monotonic()
                    await self._finish(hook, result, guard)
                    self._call_began = None
        finally:
            self._running, self._call_began = False, None
            if guard is not None and guard.spoilt and self._pending:
                self._start()  # the other calls run in a task that is as it was
            else:
                self._end()

    def _start(self) -> None:
        assert self._loop is not None  # noqa: S101 - as above
        self._loop.spawn(self._run, lambda: f"papyra hooks: {self.name}")
        self._running = True

    def _end(self) -> None:
        self._forget()  # a cancelled task runs no more calls
        waiters, self._idle = self._idle, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _finish(self, hook: str, result: Awaitable[object], guard: ScopeGuard) -> None:
        try:
            with guard:
                await result
        except KeyboardInterrupt as error:
            self.fatal(error)
        except anyio.get_cancelled_exc_class() as error:
            cancelling = self._loop.cancelling() if self._loop is not None else None
            if cancelling is None or cancelling():
                raise
            # Nobody cancelled this task: the hook awaited something else that was cancelled.
            self._count_failure(hook, error)
        except BaseException as error:
            if is_a(error, GeneratorExit) and (self._loop is None or not self._loop.is_running_here()):
                raise  # the event loop has ended
            self._count_failure(hook, error)

    async def drain(self) -> None:
        """Return when no async call is left."""
        if self._running and self._loop is not None:
            waiter = self._loop.waiter()
            self._idle.append(waiter)
            await waiter

    def give_up(self) -> None:
        """Cancel the running async call and drop the waiting ones."""
        if not self._running:
            return
        self.log_once("late", "%s did not end %d async calls in time for the close", self.pending)
        self.dropped += self._call_began is not None
        self._forget()
        if self._scope is not None:
            self._scope.cancel()

    def _forget(self) -> None:
        pending, self._pending = self._pending, deque()
        for _, result, _ in pending:
            self._drop(result)

    def _drop(self, result: Awaitable[object]) -> None:
        self.dropped += 1
        close_coroutine(result)

    def _count_failure(self, hook: str, error: BaseException) -> None:
        self.failed += 1
        self.log_once("failed", "%s raised in %s; the system goes on", hook, error=error)

    def log_once(self, kind: str, text: str, *about: object, error: BaseException | None = None) -> None:
        """Log the first problem of a kind. ``text`` begins with a ``%s`` for the observer's name."""
        if kind not in self._logged:
            self._logged.add(kind)
            text += " (logged once; control_panel() counts)"
            if error is None:
                LOG.warning(text, self.name, *about)
            else:
                log_error(text, self.name, *about, error=error)


class HookCalls:
    """The observers of one system; none of them can harm the system or another observer."""

    def __init__(self, hooks: object, on_dead_letter: Callable[[Any], Any] | None) -> None:
        self.fatal: Callable[[BaseException], None] | None = None
        self._observers: list[Observer] = []
        self._targets: dict[str, list[tuple[Observer, Callable[[Any], object]]]] = {
            name: [] for name in HOOK_NAMES
        }
        self._loop: Loop | None = None
        self._has_plugins = False
        if hooks is not None:
            calls, problem = find_hooks(hooks)
            if problem:
                raise TypeError(
                    f"hooks must be a SystemHooks, or a module or object with hooks, not {hooks!r}: {problem}"
                )
            self._add("ActorSystem(hooks=...)", calls)
        if on_dead_letter is not None:
            self._add("ActorSystem(on_dead_letter=...)", {"on_dead_letter": on_dead_letter})

    async def add_plugins(self) -> None:
        """Add the hook plugins of other distributions, once; broken ones are logged and left out.

        They are imported in a thread: an import may take seconds, and the event loop must go on.
        """
        if self._has_plugins:
            return
        self._has_plugins = True
        if plugins := find_plugins("papyra.hooks"):
            for name, calls in await anyio.to_thread.run_sync(_load_hooks, list(plugins.values())):
                self._add(name, calls)

    def observer(self, name: str) -> Observer:
        """Return a new observer, whose counts `panel` shows."""
        observer = Observer(name, self._on_fatal)
        self._observers.append(observer)
        return observer

    def _add(self, name: str, calls: Mapping[str, Callable[[Any], object]]) -> None:
        observer = self.observer(name)
        for hook, call in calls.items():
            self._targets[hook].append((observer, call))

    def _on_fatal(self, error: BaseException) -> None:
        if self.fatal is None:
            raise error
        self.fatal(error)

    def wants(self, name: str) -> bool:
        """Return whether any observer has this hook."""
        return bool(self._targets[name])

    def bind(self, loop: Loop) -> None:
        """Set the event loop that async hooks run on."""
        self._loop = loop

    def call(self, name: str, value: object) -> None:
        """Call the hook of every observer that has it."""
        for observer, call in self._targets[name]:
            observer.call(name, call, value, self._loop)

    async def drain(self) -> None:
        """Return when no async hook is left."""
        for observer in self._observers:
            await observer.drain()

    def give_up(self) -> None:
        """Cancel the running async hooks and drop the waiting ones."""
        for observer in self._observers:
            observer.give_up()

    def panel(self) -> list[dict[str, Any]]:
        """Return the observers and their counts, ready for JSON."""
        return [
            {
                "observer": observer.name,
                "failed": observer.failed,
                "slow": observer.slow,
                "dropped": observer.dropped,
                "pending": observer.pending,
            }
            for observer in self._observers
        ]


def _load_hooks(plugins: Sequence[Plugin]) -> list[tuple[str, Mapping[str, Callable[[Any], object]]]]:
    """Import hook plugins, and return each one's name and calls; broken ones are logged and left out."""
    observers: list[tuple[str, Mapping[str, Callable[[Any], object]]]] = []
    for plugin in plugins:
        name = f"the hook plugin {plugin.name!r} of {plugin.distribution} {plugin.version}"
        try:
            calls, problem = find_hooks(plugin.load())
        except PluginError as error:
            if not plugin.disabled:
                LOG.warning("%s", error)
            continue
        except KeyboardInterrupt:
            raise  # Ctrl-C comes anywhere
        except BaseException as error:  # noqa: BLE001 - reads an object of other authors
            LOG.warning("%s can't be used: %s", name, describe(error))
            continue
        if problem:
            LOG.warning("%s: %s", name, problem)
        observers.append((name, calls))
    return observers
