"""Find the plugins of other distributions by entry points. A broken plugin does not break the rest.

Groups: ``papyra.backends``, ``papyra.commands``, ``papyra.hooks``, ``papyra.instruments`` and others that
modules of Papyra look for. The environment variable ``PAPYRA_PLUGINS`` limits the plugins that load: a
comma-separated list, empty for none. An entry is the name of a plugin, the name of a distribution, or both,
as in ``papyra-tape-two:tape`` or ``papyra-tape-two:*``. Plugins of papyra-core and papyra-cli always load.
"""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, cast

from papyra.exceptions import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from importlib_metadata import Distribution, EntryPoint

__all__ = [
    "API_VERSION",
    "GROUPS",
    "Plugin",
    "PluginInfo",
    "PluginStatus",
    "all_plugins",
    "declared_api",
    "describe",
    "find_plugins",
    "inspect_plugin",
]

_logger = logging.getLogger("papyra")

API_VERSION = "1.1"
"""What plugins are written against. One that declares another major in ``papyra_api`` is not used."""

GROUPS = (
    "papyra.backends",
    "papyra.clusters",
    "papyra.codecs",
    "papyra.commands",
    "papyra.hooks",
    "papyra.instruments",
    "papyra.transports",
)

_HOST = frozenset({"papyra-core", "papyra-cli"})
_REQUIRED = re.compile(r"^Requires-Dist:[ \t]*([A-Za-z0-9._-]+)[^;\n]*;(.*)$", re.MULTILINE)
_HEADER = re.compile(r"^(Name|Version):[ \t]*(\S+)", re.MULTILINE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_UNKNOWN = "unknown"  # the distribution whose metadata names none
_OWN = _HOST | {"papyra-json", "papyra-contrib"}


class PluginStatus(StrEnum):
    """Whether a plugin can be used."""

    OK = "ok"
    BROKEN = "broken"
    INCOMPATIBLE = "incompatible"
    DISABLED = "disabled"
    SHADOWED = "shadowed"


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """The state of a plugin after an attempt to load it; ``load_seconds`` is None if none was made."""

    name: str
    group: str
    distribution: str
    version: str
    target: str
    api: str
    capabilities: tuple[str, ...]
    status: PluginStatus
    reason: str
    load_seconds: float | None


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed entry point, not loaded yet.

    ``shadowed_by`` names the distribution that is used instead.
    """

    name: str
    group: str
    distribution: str
    version: str
    target: str
    entry_point: EntryPoint
    shadowed_by: str | None = None

    @property
    def is_own(self) -> bool:
        """Whether one of our own distributions brings it."""
        return self.distribution in _OWN

    @property
    def disabled(self) -> bool:
        """Whether ``PAPYRA_PLUGINS`` leaves it out."""
        allowed = _allow_list()
        return (
            allowed is not None
            and self.distribution not in _HOST
            and not {
                self.name,
                self.distribution,
                f"{self.distribution}:*",
                f"{self.distribution}:{self.name}",
            }
            & allowed
        )

    def load(self) -> object:
        """Import and return the target.

        Raises `PluginError` if it is not allowed, fails to import in any way, or was made for another major
        of the plugin API; the cause is kept.
        """
        what = f"the plugin {self.name!r} of {self.distribution} {self.version}"
        if self.disabled:
            raise PluginError(f"{what} is not in PAPYRA_PLUGINS; add {self.name!r} there to allow it")
        try:
            loaded: object = self.entry_point.load()
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # importing runs a stranger's code: even SystemExit must be contained
            raise PluginError(
                f"{what} is broken: importing {self.target} raised {describe(error)}"
            ) from error
        try:
            api = declared_api(loaded)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # as above
            raise PluginError(f"{what} is broken: its papyra_api raised {describe(error)}") from error
        if api.partition(".")[0] != API_VERSION.partition(".")[0]:
            raise PluginError(
                f"{what} was made for plugin API {api}, this is {API_VERSION}; install a version that fits"
            )
        return loaded


def find_plugins(group: str) -> dict[str, Plugin]:
    """Return the plugins of a group by name, without loading any.

    If two have the same name, the one that ``PAPYRA_PLUGINS`` allows is used, then ours, then the first by
    distribution.
    """
    plugins: dict[str, Plugin] = {}
    for plugin in _all_plugins(group):
        plugins.setdefault(plugin.name, plugin)
    return plugins


def inspect_plugin(plugin: Plugin, check: Callable[[object], Iterable[str]]) -> PluginInfo:
    """Try to load ``plugin`` and report the outcome. Never raises for what the plugin does.

    ``check`` gets the loaded object; it returns its capabilities or raises `PluginError`.
    """
    status, reason, api = PluginStatus.OK, "", ""
    capabilities: tuple[str, ...] = ()
    seconds: float | None = None
    if plugin.shadowed_by is not None:
        status, reason = PluginStatus.SHADOWED, f"{plugin.shadowed_by} brings the same name"
    elif plugin.disabled:
        status, reason = PluginStatus.DISABLED, "not in PAPYRA_PLUGINS"
    else:
        began = time.perf_counter()
        try:
            loaded = plugin.load()
            api, capabilities = declared_api(loaded), tuple(sorted(check(loaded)))
            if plugin.group == "papyra.backends":
                _check_scheme(plugin, loaded)
        except PluginError as error:
            status = PluginStatus.INCOMPATIBLE if error.__cause__ is None else PluginStatus.BROKEN
            reason = str(error)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a check touches a stranger's object, which may do anything
            status, reason = PluginStatus.BROKEN, f"checking it raised {describe(error)}"
        seconds = time.perf_counter() - began
    return PluginInfo(
        plugin.name,
        plugin.group,
        plugin.distribution,
        plugin.version,
        plugin.target,
        api,
        capabilities,
        status,
        reason,
        seconds,
    )


def _check_scheme(plugin: Plugin, loaded: object) -> None:
    """Raise `PluginError` if no URL can name a backend by its entry point, or its class has another name."""
    problem = ""
    if not _SCHEME.fullmatch(plugin.name):
        problem = (
            f"the entry point's name {plugin.name!r} can't be the scheme of a URL; use small letters, digits, '+', '-' "
            "and '.', a letter first"
        )
    elif plugin.name not in (getattr(loaded, "name", ""), *getattr(loaded, "schemes", ())):
        problem = (
            f"the entry point's name {plugin.name!r} is not the class's name {getattr(loaded, 'name', '')!r}; "
            "make them the same, or add it to schemes"
        )
    if problem:
        raise PluginError(problem) from ValueError(problem)


def all_plugins(groups: Iterable[str] = GROUPS) -> list[Plugin]:
    """Return every installed plugin of the groups, shadowed ones too, ordered by group and name."""
    return [plugin for group in groups for plugin in _all_plugins(group)]


def declared_api(loaded: object) -> str:
    """Return the plugin API that an object says it was made for; today's if it says nothing."""
    return str(getattr(loaded, "papyra_api", API_VERSION))


def describe(error: BaseException) -> str:
    """Return an error's type and text in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _all_plugins(group: str) -> list[Plugin]:
    plugins = list(_installed(group))
    # The allow list comes first: a plugin that must not load shadows no other.
    plugins.sort(
        key=lambda plugin: (
            plugin.name,
            plugin.disabled,
            plugin.distribution not in _OWN,
            plugin.distribution,
        )
    )
    winners: dict[str, Plugin] = {}
    for plugin in plugins:
        winners.setdefault(plugin.name, plugin)
    return [_shadowed(plugin, winners[plugin.name]) for plugin in plugins]


def _shadowed(plugin: Plugin, winner: Plugin) -> Plugin:
    used = plugin is winner or plugin.disabled
    return plugin if used else replace(plugin, shadowed_by=winner.distribution)


def _installed(group: str) -> Iterator[Plugin]:
    """Yield the entry points of a group, distribution by distribution.

    `importlib_metadata.entry_points` gives up on all of them where one distribution's file is malformed.
    """
    # Here and not above: reading the metadata of distributions costs more than all of `import papyra`.
    from importlib_metadata import Distribution

    distributions: Iterable[Distribution] = Distribution.discover()  # pyright: ignore[reportUnknownMemberType]  # its **kwargs have no annotation
    seen: set[str] = set()
    for distribution in distributions:
        try:
            points = cast("Iterable[EntryPoint]", distribution.entry_points)  # its __iter__ has no annotation
            mine = [point for point in points if point.group == group]
        except Exception as error:  # noqa: BLE001 - files that anyone may have written: malformed, unreadable, not UTF-8
            _logger.debug("can't read the entry points of %r: %s", distribution, describe(error))
            continue
        if not mine:
            continue
        name, version = _name_and_version(distribution)
        if name in seen:
            continue  # installed twice on sys.path: the first is the one that imports find, too
        if name != _UNKNOWN:
            seen.add(name)
        for point in mine:
            if not point.extras or _has_extras(distribution, point.extras):
                target = point.value.partition("[")[0].strip()
                yield Plugin(point.name, group, name, version, target, point)


def _has_extras(distribution: Distribution, extras: Iterable[str]) -> bool:
    """Whether what the extras of an entry point require is there: else nobody asked for that plugin."""
    # Here and not above, as in `_installed`.
    from importlib_metadata import Distribution

    for name, marker in _REQUIRED.findall(_head(distribution)):
        if any(re.search(rf"""\bextra\s*==\s*["']{re.escape(extra)}["']""", marker) for extra in extras):
            distributions: Iterable[Distribution] = Distribution.discover(name=name)  # pyright: ignore[reportUnknownMemberType]  # as above
            if next(iter(distributions), None) is None:
                return False
    return True


def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    headers = dict(_HEADER.findall(_head(distribution)))
    return _normalized(headers.get("Name", _UNKNOWN)), headers.get("Version", "")


def _head(distribution: Distribution) -> str:
    """Return the headers of a distribution's metadata; none if they can't be read."""
    # Not `distribution.metadata`: the email parser behind it costs 12 ms of every `papyra --help`.
    read = cast(
        "Callable[[str], str | None]",
        distribution.read_text,  # pyright: ignore[reportUnknownMemberType]  # its parameter has no annotation
    )
    try:
        text = read("METADATA") or read("PKG-INFO") or ""
    except Exception:  # noqa: BLE001 - files that anyone may have written: unreadable in any way
        text = ""
    return text.partition("\n\n")[0]


def _allow_list() -> frozenset[str] | None:
    text = os.environ.get("PAPYRA_PLUGINS")
    if text is None:
        return None
    words = [word.strip() for word in text.split(",") if word.strip()]
    return frozenset(words) | frozenset(map(_normalized_entry, words))


def _normalized_entry(entry: str) -> str:
    """Normalize the distribution in an entry of the allow list."""
    distribution, colon, name = entry.partition(":")
    return _normalized(distribution) + colon + name


def _normalized(name: str) -> str:
    """Spell a distribution's name as PyPA's specification normalizes it."""
    return re.sub(r"[-_.]+", "-", name).lower()
