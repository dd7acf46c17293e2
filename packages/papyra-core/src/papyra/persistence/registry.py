"""From a backend URL to an open backend."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, cast

from papyra.exceptions import PluginError, UnknownBackend
from papyra.persistence.backend import PersistenceBackend, backend_capabilities
from papyra.persistence.memory import InMemoryPersistence
from papyra.persistence.url import BackendURL
from papyra.plugins import find_plugins

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["backend_class", "backend_problem", "check_backend", "open_backend"]

GROUP = "papyra.backends"


def open_backend(url: str) -> PersistenceBackend:
    """Open the backend that ``url`` names, as in ``"json:./papyra.ndjson?max_records=100000"``.

    An unknown scheme is an `UnknownBackend` that names the distribution which would bring it; a malformed
    URL, an unknown option or a bad value is a `BackendURLError`; a broken or incompatible plugin is a
    `PluginError`.
    """
    return backend_class(BackendURL.parse(url).scheme).from_url(url)


def backend_class(name: str) -> type[PersistenceBackend]:
    """Return the class that the plugin ``name`` brings."""
    if name == InMemoryPersistence.name:
        return InMemoryPersistence  # part of core: there even where no metadata is, as in a frozen program
    plugins = find_plugins(GROUP)
    if name not in plugins:
        raise UnknownBackend(name, {*plugins, InMemoryPersistence.name})
    loaded = plugins[name].load()
    problem = backend_problem(loaded)
    if problem:
        raise PluginError(f"the plugin {name!r} of {plugins[name].distribution} can't be used: {problem}")
    return cast("type[PersistenceBackend]", loaded)


def backend_problem(loaded: object) -> str | None:
    """Say why ``loaded`` is no backend class, or None."""
    if not isinstance(loaded, type) or not issubclass(loaded, PersistenceBackend):
        return f"{loaded!r} is not a subclass of papyra.persistence.PersistenceBackend"
    if inspect.isabstract(loaded):
        missing = ", ".join(sorted(loaded.__abstractmethods__))
        return f"{loaded.__qualname__} does not define {missing}"
    return None


def check_backend(loaded: object) -> Iterable[str]:
    """Return a backend plugin's capabilities; what is no backend is a `PluginError`. For `inspect_plugin`."""
    problem = backend_problem(loaded)
    if problem:
        raise PluginError(problem) from TypeError(problem)
    return backend_capabilities(cast("type[PersistenceBackend]", loaded))
