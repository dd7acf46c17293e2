"""The settings of a process, and where each value comes from.

What goes first: an environment variable ``PAPYRA_<FIELD>``, the table ``[tool.papyra]`` of a project (only
where one is asked for), the object that ``PAPYRA_SETTINGS_MODULE`` names, the default. Only who sets the
environment, or calls `load_settings` with a project, chooses them; nothing that is read from a store ever
does.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FoundSetting", "Settings", "find_settings", "load_settings", "settings"]

VARIABLE = "PAPYRA_SETTINGS_MODULE"

_PREFIX = "PAPYRA_"
_SIZES = ("max_events", "max_dead_letters", "fact_buffer", "payload_limit", "blocking_threads")
_URLS = {
    "persistence": "backend URL, as in json:./papyra.ndjson",
    "cluster": "cluster URL, as in nats://127.0.0.1:4222/shop",
}
_LETTERS = ("dead_letter_payload", "dead_letter_log_first", "dead_letter_mute_seconds")
_FIELDS = ("persistence", *_SIZES, "instruments", "cluster", *_LETTERS)
_VARIABLES = (*(f"{_PREFIX}{name.upper()}" for name in _FIELDS), VARIABLE, "PAPYRA_PLUGINS")
_OF_PLUGINS = ("PAPYRA_OTEL_", "PAPYRA_RUNTIME_DIR")


@dataclass(frozen=True)
class Settings:
    """What systems and commands use where nothing else was said. Subclass or call it with other values.

    Sizes are numbers of objects, ``payload_limit`` of characters, ``blocking_threads`` of threads.
    ``persistence`` is a backend URL, None for memory; ``cluster`` is a cluster URL, None for a system of its
    own. ``instruments`` names plugins that measure every system, see `papyra.instruments`; none is used
    unless named. The fields ``dead_letter_...`` are those of `papyra.deadletters.DeadLetterPolicy`. A
    subclass that changes defaults must be a frozen dataclass as well.
    """

    persistence: str | None = None
    max_events: int = 10_000
    max_dead_letters: int = 1_000
    fact_buffer: int = 1_000_000
    payload_limit: int = 4096
    blocking_threads: int = 16
    instruments: tuple[str, ...] = ()
    cluster: str | None = field(default=None, repr=False)  # it may have a password in it
    dead_letter_payload: Literal["full", "type", "none"] = "full"
    dead_letter_log_first: int = 10
    dead_letter_mute_seconds: float = 300.0

    def __post_init__(self) -> None:
        for name in (*_SIZES, *_LETTERS):
            _check(name, name, getattr(self, name))
        object.__setattr__(self, "instruments", _names("instruments", self.instruments))
        for name in _FIELDS:
            owner = next(kind for kind in type(self).__mro__ if name in vars(kind))
            # The __init__ of a dataclass knows nothing of what a plain class below it says in its body.
            if "__dataclass_fields__" not in vars(owner) and vars(owner)[name] != getattr(self, name):
                raise TypeError(
                    f"{owner.__qualname__} changes {name}, but is not a dataclass; put @dataclass(frozen=True) above it"
                )


def load_settings(*, project: str | os.PathLike[str] | None = None) -> Settings:
    """Return the settings of this process: every value from where it is found first.

    With ``project``, a folder, ``[tool.papyra]`` of the nearest ``pyproject.toml`` counts as well, upwards
    from there. Without it no file that happens to lie around a program configures it.

    A bad value is a `ValueError`, and settings that can't be imported are an `ImportError`; both name the
    place.
    """
    values: dict[str, object] = {}
    for setting in _overrides(project):
        if setting.error is not None and setting.name not in values and setting.name in ("", *_FIELDS):
            raise setting.error
        if setting.name in _FIELDS:
            values.setdefault(setting.name, setting.value)
    named = _named_settings() or Settings()
    if not values:
        return named
    changed = copy.copy(named)  # not replace(): a subclass may have an __init__ of its own
    for name, value in values.items():
        object.__setattr__(changed, name, value)
    return changed


class FoundSetting(NamedTuple):  # no dataclass: each costs `import papyra` most of a millisecond
    """A value and where it was found, as in ``PAPYRA_MAX_EVENTS``.

    With an ``error`` it is of no use; without a ``name`` it names a file or an object that can't be read.
    """

    name: str
    value: object
    origin: str
    error: Exception | None = None


def find_settings(*, project: str | os.PathLike[str] | None = None) -> Iterator[FoundSetting]:
    """Yield every value that is configured, what goes first first, and the defaults after them.

    Misspelt variables and keys are among them, with an error that says so. Nothing is read or imported before
    its turn comes, and nothing is raised.
    """
    yield from _overrides(project)
    target = os.environ.get(VARIABLE, "")
    try:
        named = _named_settings()
    except Exception as error:  # noqa: BLE001 - importing an application may raise anything
        yield FoundSetting("", None, f"{VARIABLE}={target}", error)
    else:
        for name in _FIELDS if named is not None else ():
            if getattr(named, name) != getattr(Settings, name):
                yield FoundSetting(name, getattr(named, name), f"{VARIABLE}={target}")
    for name in _FIELDS:
        yield FoundSetting(name, getattr(Settings, name), "default")


def _overrides(project: str | os.PathLike[str] | None) -> Iterator[FoundSetting]:
    """Yield what goes before the object that ``PAPYRA_SETTINGS_MODULE`` names."""
    for variable in sorted(os.environ):
        text = os.environ.get(variable)
        if variable.startswith(_PREFIX) and text:
            name = variable.removeprefix(_PREFIX).lower()
            if variable.startswith(_OF_PLUGINS):
                continue  # the options of an instrument
            if variable not in _VARIABLES:
                yield FoundSetting(variable, text, "environment", _unknown(variable, _VARIABLES))
            elif name in _FIELDS:
                yield _read(name, text, variable, variable)
    if project is None:
        return
    # Here and not above: a program that asks for no project needs no TOML.
    from papyra._pyproject import read_project

    try:
        origin, table = read_project(project)
    except (OSError, ValueError) as error:
        yield FoundSetting("", None, "[tool.papyra]", error)
        return
    for key, value in table.items():
        if key in _FIELDS:
            yield _read(key, value, origin, f"{key} in {origin}")
        else:
            yield FoundSetting(key, value, origin, _unknown(key, _FIELDS))


def _read(name: str, raw: object, origin: str, what: str) -> FoundSetting:
    """Read a value as a variable or a file has it; ``what`` says in an error whose it is."""
    try:
        if name == "instruments":
            return FoundSetting(name, _names(what, raw), origin)
        value = _parsed(name, raw) if isinstance(raw, str) else raw
        _check(name, what, value)
    except ValueError as error:
        return FoundSetting(name, raw, origin, error)
    return FoundSetting(name, value, origin)


def _parsed(name: str, text: str) -> object:
    """Return the number in a text if the field is a number, else the text; `_check` refuses bad values."""
    text = text.strip()
    if name in (*_URLS, "dead_letter_payload"):
        return text
    if text.isascii() and text.isdecimal():
        return int(text)
    if name == "dead_letter_mute_seconds" and text.isascii() and text.replace(".", "", 1).isdecimal():
        return float(text)
    return text


def _check(name: str, what: str, value: object) -> None:
    """Raise a `ValueError` if a value does not fit a field; ``what`` names the field or its place."""
    if name in _URLS:
        if not isinstance(value, str):
            raise ValueError(f"{what} must be a {_URLS[name]}, not {value!r}")
    elif name == "dead_letter_payload":
        if value not in ("full", "type", "none"):
            raise ValueError(f"{what} must be one of full, type and none, not {value!r}")
    elif name == "dead_letter_mute_seconds":
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
            raise ValueError(f"{what} must be a number of seconds of at least 0, as in 300, not {value!r}")
    else:
        least = 0 if name == "dead_letter_log_first" else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{what} must be a whole number of at least {least}, as in 10000, not {value!r}")


def _names(what: str, raw: object) -> tuple[str, ...]:
    """Read names from a text with commas, or from a list of texts."""
    given: object = raw.split(",") if isinstance(raw, str) else raw
    parts = cast("list[object]", given) if isinstance(given, list | tuple) else [None]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{what} must be names of plugins, as in 'prometheus,otel', not {raw!r}")
    return tuple(part.strip() for part in cast("list[str]", parts) if part.strip())


def _unknown(name: str, known: tuple[str, ...]) -> ValueError:
    from difflib import get_close_matches  # only where somebody mistyped

    close = get_close_matches(name, known, 1)
    return ValueError(f"unknown; {f'did you mean {close[0]}?' if close else 'known are ' + ', '.join(known)}")


def _named_settings() -> Settings | None:
    """Return the settings that ``PAPYRA_SETTINGS_MODULE`` names, or None if it is unset.

    The name is a module, ``module:NAME`` or ``module.NAME``. An `ImportError` says what was looked for.
    """
    target = os.environ.get(VARIABLE, "").strip()
    if not target:
        return None
    module_name, _, attribute = target.partition(":")
    try:
        try:
            module = import_module(module_name)
        except ModuleNotFoundError as error:
            above, _, last = target.rpartition(".")
            if attribute or not above or not last or error.name != module_name:
                raise
            module_name, attribute = above, last
            module = import_module(module_name)
    except (
        ImportError,
        TypeError,
        ValueError,
    ) as error:  # TypeError: a relative name, ValueError: an empty one
        raise ImportError(f"{VARIABLE}={target!r}: can't import {module_name!r} ({error})") from error
    settings: object = None
    for name in [attribute] if attribute else ["settings", "Settings"]:
        settings = getattr(module, name, None)
        if settings is not Settings and isinstance(settings, type) and issubclass(settings, Settings):
            settings = settings()  # ours is there where a module imports it, and says nothing
        if isinstance(settings, Settings):
            return settings
    looked = attribute or "settings' or 'Settings"
    raise ImportError(f"{VARIABLE}={target!r}: {module_name} has no papyra.Settings called '{looked}'")


class _LazySettings:
    """The settings of the process, which are loaded when they are first used."""

    _loaded: Settings | None = None

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._loaded is None:
            self._loaded = load_settings()
        return getattr(self._loaded, name)

    def __repr__(self) -> str:
        return f"<settings of papyra: {self._loaded or 'not loaded yet'}>"


if TYPE_CHECKING:
    settings: Settings
else:
    settings = _LazySettings()
"""The settings of this process, loaded when first looked at."""
