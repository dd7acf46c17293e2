"""From the names in the setting ``instruments`` to instruments.

The plugins of the group ``papyra.instruments``.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, cast

from papyra.exceptions import PluginError
from papyra.instruments import Instrument
from papyra.plugins import find_plugins

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["check_instrument", "load_instruments", "loaded_before", "make_instruments"]

_logger = logging.getLogger("papyra")

_METHODS = ("started", "send", "begin", "end", "replied", "run")


_loaded: dict[tuple[object, ...], dict[str, object]] = {}


def loaded_before(names: tuple[str, ...]) -> dict[str, object] | None:
    """Return the result of `load_instruments` if nothing was missing and the installation is unchanged."""
    return _loaded.get(_key(names))


def _key(names: tuple[str, ...]) -> tuple[object, ...]:
    return (names, os.environ.get("PAPYRA_PLUGINS"), tuple(sys.path))


def load_instruments(names: tuple[str, ...]) -> dict[str, object]:
    """Import the plugins of these names, in this order.

    One that is not there or fails is logged and left out.
    """
    plugins = find_plugins("papyra.instruments")
    loaded: dict[str, object] = {}
    for name in names:
        plugin = plugins.get(name)
        if plugin is None:
            known = ", ".join(plugins) or "none"
            _logger.error(
                "no instrument %r is installed (setting instruments); installed are: %s", name, known
            )
            continue
        try:
            loaded[name] = plugin.load()
        except PluginError as error:
            _logger.error("the instrument %r is left out: %s", name, error)
    if len(loaded) == len(set(names)):
        _loaded[_key(names)] = loaded
    return loaded


def make_instruments(loaded: object) -> list[Instrument]:
    """Return the instruments that a plugin is, or that its class or function makes.

    Anything else is a `PluginError`.
    """
    made: object = loaded() if callable(loaded) and not isinstance(loaded, Instrument) else loaded
    several = cast("list[object]", made) if isinstance(made, list) else [made]
    for instrument in several:
        if not isinstance(instrument, Instrument):
            raise PluginError(
                f"it is {type(instrument).__name__}, not a papyra.instruments.Instrument, nor a class or function that makes one"
            )
    return cast("list[Instrument]", several)


def check_instrument(loaded: object) -> Iterable[str]:
    """Return the methods that a plugin's instrument has of its own, without making one.

    For `inspect_plugin`.
    """
    kind = loaded if isinstance(loaded, type) else type(loaded)
    if issubclass(kind, Instrument):
        return [name for name in _METHODS if getattr(kind, name) is not getattr(Instrument, name)]
    if isinstance(loaded, type) or not callable(loaded):
        raise PluginError("it is not an instrument") from TypeError(f"{kind.__name__} is not an Instrument")
    return []
