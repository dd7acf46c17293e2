"""The observers of one system: the user's hooks and plugins', all told in the same way."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from papyra._runtime.hook_calls import Observer
from papyra.exceptions import PluginError
from papyra.hook_discovery import find_hooks
from papyra.hooks import HOOK_NAMES
from papyra.plugins import describe, find_plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from papyra._runtime._eventloop import Loop

__all__ = ["Callbacks"]

_logger = logging.getLogger("papyra")


class Callbacks:
    """Tells every observer what happens; none of them can harm the system or another one."""

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

    def add_plugins(self) -> None:
        """Add the observers of other distributions, once; broken ones are logged and left out."""
        if self._has_plugins:
            return
        self._has_plugins = True
        for plugin in find_plugins("papyra.hooks").values():
            name = f"the hook plugin {plugin.name!r} of {plugin.distribution} {plugin.version}"
            try:
                calls, problem = find_hooks(plugin.load())
            except PluginError as error:
                if not plugin.disabled:
                    _logger.warning("%s", error)
                continue
            except Exception as error:  # noqa: BLE001 - a stranger's object is read
                _logger.warning("%s can't be used: %s", name, describe(error))
                continue
            if problem:
                _logger.warning("%s: %s", name, problem)
            self._add(name, calls)

    def _add(self, name: str, calls: Mapping[str, Callable[[Any], object]]) -> None:
        observer = Observer(name, self._on_fatal)
        self._observers.append(observer)
        for hook, call in calls.items():
            self._targets[hook].append((observer, call))

    def _on_fatal(self, error: BaseException) -> None:
        if self.fatal is None:
            raise error
        self.fatal(error)

    def wants(self, name: str) -> bool:
        """Whether anybody listens."""
        return bool(self._targets[name])

    def bind(self, loop: Loop) -> None:
        """Say where async hooks run."""
        self._loop = loop

    def call(self, name: str, value: object) -> None:
        """Tell every observer that has this hook."""
        for observer, call in self._targets[name]:
            observer.tell(name, call, value, self._loop)

    async def drain(self) -> None:
        """Return when no async hook waits any more."""
        for observer in self._observers:
            await observer.drain()

    def give_up(self) -> None:
        """Cancel the async hooks that run, and forget those that wait."""
        for observer in self._observers:
            observer.give_up()

    def panel(self) -> list[dict[str, Any]]:
        """Return the observers and what was counted of them, ready for JSON."""
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
