"""From a backend URL, or the path of a file, to a backend."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, cast

from papyra.exceptions import BackendURLError, PersistenceError, PluginError, UnknownBackend
from papyra.persistence.backend import PersistenceBackend, backend_capabilities
from papyra.persistence.memory import InMemoryPersistence
from papyra.persistence.url import BackendURL, is_scheme
from papyra.plugins import describe, find_plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from papyra.plugins import Plugin

__all__ = [
    "backend_class",
    "backend_problem",
    "check_backend",
    "installed_backends",
    "open_backend",
    "recognize",
    "register",
]

_logger = logging.getLogger("papyra")

GROUP = "papyra.backends"

_registered: dict[str, type[PersistenceBackend]] = {}
"""Backend classes by scheme that were registered in this process, for tests; they come before plugins."""


def open_backend(url: str) -> PersistenceBackend:
    """Open the backend that ``url`` names, as in ``"json:./papyra.ndjson?max_records=100000"``.

    An unknown scheme is an `UnknownBackend` that names the distribution which would bring it; a malformed
    URL, an unknown option or a bad value is a `BackendURLError`; a broken or incompatible plugin is a
    `PluginError`.
    """
    return backend_class(BackendURL.parse(url).scheme).from_url(url)


def backend_class(scheme: str) -> type[PersistenceBackend]:
    """Return the backend class for a URL scheme.

    A plugin's name, or one of the ``schemes`` of an installed backend.
    """
    if scheme == InMemoryPersistence.name:
        return InMemoryPersistence  # part of core: available even without metadata, as in a frozen program
    if scheme in _registered:
        return _registered[scheme]
    plugins = find_plugins(GROUP)
    if scheme in plugins:
        return _loaded(plugins[scheme])
    for kind in installed_backends():
        if scheme in kind.schemes:
            return kind
    raise UnknownBackend(scheme, {*plugins, InMemoryPersistence.name})


def installed_backends() -> Iterator[type[PersistenceBackend]]:
    """Yield the backend classes that load; each is loaded when its turn comes.

    Other distributions come before ours, and backends that need extra libraries, which are slow to import,
    last.
    """

    def turn(plugin: Plugin) -> tuple[bool, bool, str, str]:
        return bool(plugin.entry_point.extras), plugin.is_own, plugin.distribution, plugin.name

    yield from dict.fromkeys(_registered.values())
    for plugin in sorted(find_plugins(GROUP).values(), key=turn):
        try:
            yield _loaded(plugin)
        except PluginError as error:
            # One broken plugin must not hide the others; `papyra plugins` lists it with the reason.
            _logger.debug("%s", error)


def register(kind: type[PersistenceBackend]) -> Callable[[], None]:
    """Make a class known by its ``schemes`` in this process; return a function that undoes it."""
    problem = backend_problem(kind)
    schemes = kind.schemes if problem is None else ()
    if problem is None and not (kind.name and all(map(is_scheme, schemes))):
        problem = f"{kind.__qualname__}.name is {kind.name!r}, not the scheme of a URL as in 'tape'"
    if problem:
        raise PluginError(f"can't register a backend: {problem}")
    before = {scheme: _registered.get(scheme) for scheme in schemes}
    _registered.update(dict.fromkeys(schemes, kind))

    def undo() -> None:
        for scheme, earlier in before.items():
            if earlier is None:
                _registered.pop(scheme, None)
            else:
                _registered[scheme] = earlier

    return undo


def recognize(path: str) -> str | None:
    """Return the URL of the store at ``path``, or None if no installed backend recognizes it.

    Other distributions are asked before ours: a store with a format of its own is not taken for damaged
    lines.
    """
    for kind in installed_backends():
        try:
            url = kind.recognizes(path)
        except (BackendURLError, PersistenceError):
            raise
        except Exception as error:  # noqa: BLE001 - a third party's look may raise anything, and others may know the file
            _logger.warning("the backend %r can't look at %s: %s", kind.name, path, describe(error))
            continue
        if url is not None:
            return url
    return None


def _loaded(plugin: Plugin) -> type[PersistenceBackend]:
    loaded = plugin.load()
    problem = backend_problem(loaded)
    if problem:
        raise PluginError(f"the plugin {plugin.name!r} of {plugin.distribution} can't be used: {problem}")
    return cast("type[PersistenceBackend]", loaded)


def backend_problem(loaded: object) -> str | None:
    """Return why ``loaded`` is not a backend class, or None."""
    if not isinstance(loaded, type) or not issubclass(loaded, PersistenceBackend):
        return f"{loaded!r} is not a subclass of papyra.persistence.PersistenceBackend"
    if inspect.isabstract(loaded):
        missing = ", ".join(sorted(loaded.__abstractmethods__))
        return f"{loaded.__qualname__} does not define {missing}"
    return None


def check_backend(loaded: object) -> Iterable[str]:
    """Return a backend plugin's capabilities; anything else is a `PluginError`. For `inspect_plugin`."""
    problem = backend_problem(loaded)
    if problem:
        raise PluginError(problem) from TypeError(problem)
    return backend_capabilities(cast("type[PersistenceBackend]", loaded))
