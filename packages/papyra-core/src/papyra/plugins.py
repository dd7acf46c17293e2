"""Find what other distributions bring, through entry points, and never let a broken one break the rest.

Groups: ``papyra.backends``, ``papyra.commands`` and ``papyra.hooks``. The environment variable
``PAPYRA_PLUGINS`` limits what loads: a comma-separated list of plugin or distribution names, empty for
none. What papyra-core and papyra-cli bring themselves is no plugin in this sense and always loads.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from papyra.exceptions import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from importlib_metadata import EntryPoint

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

API_VERSION = "1.0"
"""What plugins are written against. One that declares another major in ``papyra_api`` is not used."""

GROUPS = ("papyra.backends", "papyra.commands", "papyra.hooks")

_HOST = frozenset({"papyra-core", "papyra-cli"})
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
    """What is known of a plugin after an attempt to load it; ``load_seconds`` is None if none was made."""

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
    """An installed entry point, not loaded yet. ``shadowed_by`` names the distribution that is used instead."""

    name: str
    group: str
    distribution: str
    version: str
    target: str
    entry_point: EntryPoint
    shadowed_by: str | None = None

    @property
    def disabled(self) -> bool:
        """Whether ``PAPYRA_PLUGINS`` leaves it out."""
        allowed = _allow_list()
        return (
            allowed is not None
            and self.distribution not in _HOST
            and not {self.name, self.distribution} & allowed
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
        api = declared_api(loaded)
        if api.partition(".")[0] != API_VERSION.partition(".")[0]:
            raise PluginError(
                f"{what} was made for plugin API {api}, this is {API_VERSION}; install a version that fits"
            )
        return loaded


def find_plugins(group: str) -> dict[str, Plugin]:
    """Return the plugins of a group by name, without loading any. Where two share a name, ours wins, then the alphabet."""
    return {plugin.name: plugin for plugin in _all_plugins(group) if plugin.shadowed_by is None}


def inspect_plugin(plugin: Plugin, check: Callable[[object], Iterable[str]]) -> PluginInfo:
    """Try to load ``plugin`` and tell how it went. Never raises for what the plugin does.

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
        except PluginError as error:
            status = PluginStatus.INCOMPATIBLE if error.__cause__ is None else PluginStatus.BROKEN
            reason = str(error)
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
    # Here and not above: reading the metadata of distributions costs more than all of `import papyra`.
    import importlib_metadata

    found: list[Plugin] = []
    for entry_point in importlib_metadata.entry_points(group=group):
        metadata: Mapping[str, str] = {}
        if entry_point.dist is not None:
            metadata = {"name": entry_point.dist.name, "version": entry_point.dist.version}
        distribution = _normalized(metadata.get("name") or "unknown")
        found.append(
            Plugin(
                entry_point.name,
                group,
                distribution,
                metadata.get("version") or "",
                entry_point.value,
                entry_point,
            )
        )
    found.sort(key=lambda plugin: (plugin.name, plugin.distribution not in _OWN, plugin.distribution))
    ordered: list[Plugin] = []
    for plugin in found:
        winner = ordered[-1] if ordered and ordered[-1].name == plugin.name else None
        shadow = winner and (winner.shadowed_by or winner.distribution)
        ordered.append(
            Plugin(
                plugin.name,
                group,
                plugin.distribution,
                plugin.version,
                plugin.target,
                plugin.entry_point,
                shadow or None,
            )
        )
    return ordered


def _allow_list() -> frozenset[str] | None:
    text = os.environ.get("PAPYRA_PLUGINS")
    if text is None:
        return None
    names = [word.strip() for word in text.split(",") if word.strip()]
    return frozenset(names) | frozenset(_normalized(name) for name in names)


def _normalized(name: str) -> str:
    """Spell a distribution's name as PyPA's specification normalizes it."""
    return re.sub(r"[-_.]+", "-", name).lower()
