"""Defaults of a process, replaceable through ``PAPYRA_SETTINGS_MODULE``.

The variable names a module (``myapp.papyra_settings``, which holds a `Settings` object or class called
``settings`` or ``Settings``) or an object in one (``myapp.conf:PapyraSettings``). Only the person who sets
the environment chooses it; nothing that is read from a store ever does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["Settings", "load_settings", "settings"]

VARIABLE = "PAPYRA_SETTINGS_MODULE"


@dataclass(frozen=True)
class Settings:
    """What systems and commands use where nothing else was said. Subclass or call it with other values.

    Sizes are numbers of objects. ``persistence`` is a backend URL, None for memory.
    """

    persistence: str | None = None
    max_events: int = 10_000
    max_dead_letters: int = 1_000
    fact_buffer: int = 1_000_000
    payload_limit: int = 4096

    def __post_init__(self) -> None:
        for name in ("max_events", "max_dead_letters", "fact_buffer", "payload_limit"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")


def load_settings() -> Settings:
    """Return the settings that ``PAPYRA_SETTINGS_MODULE`` names, or the defaults.

    A module that can't be imported, or holds no settings, is an `ImportError` that says what was looked for.
    """
    target = os.environ.get(VARIABLE, "")
    if not target:
        return Settings()
    module_name, _, attribute = target.partition(":")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ImportError(f"{VARIABLE}={target!r}: can't import {module_name!r} ({error})") from error
    found: object = None
    for name in [attribute] if attribute else ["settings", "Settings"]:
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, Settings):
            found = found()
        if isinstance(found, Settings):
            return found
    looked = attribute or "settings' or 'Settings"
    raise ImportError(f"{VARIABLE}={target!r}: {module_name} has no papyra.Settings called '{looked}'")


class _LazySettings:
    """Stand for the settings of the process, loaded when first looked at."""

    _loaded: Settings | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._loaded is None:
            self._loaded = load_settings()
        return getattr(self._loaded, name)

    def __repr__(self) -> str:
        return f"<settings of papyra: {self._loaded or 'not loaded yet'}>"


settings = _LazySettings()
"""The settings of this process."""
