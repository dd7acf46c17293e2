"""The names of installed commands and backends, known without loading one, and the loading of a command."""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import Distribution, distributions
from typing import NamedTuple

import click

from papyra_cli._escape import printable

__all__ = [
    "GROUP",
    "OWN_COMMANDS",
    "OwnCommand",
    "check_command",
    "command_names",
    "installed_names",
    "load_command",
]

GROUP = "papyra.commands"

_HEADER = re.compile(r"^(Name|Version):[ \t]*(\S+)", re.MULTILINE)


class OwnCommand(NamedTuple):
    """The place of one of our own commands, and its line in `papyra --help`; a test checks both."""

    target: str
    help: str


OWN_COMMANDS = {
    "config": OwnCommand(
        "papyra_cli.commands.config:config", "Show what is configured, and where it comes from."
    ),
    "doctor": OwnCommand(
        "papyra_cli.commands.doctor:doctor", "Check that a system would find its store in order."
    ),
    "inspect": OwnCommand(
        "papyra_cli.commands.inspect:inspect",
        "Read the record of a system: events, audits, dead letters, runs.",
    ),
    "metrics": OwnCommand(
        "papyra_cli.commands.metrics:metrics", "Show the counters of a store, or of a running application."
    ),
    "persistence": OwnCommand(
        "papyra_cli.commands.persistence:persistence",
        "Scan, recover, compact, inspect and copy a store of facts.",
    ),
    "plugins": OwnCommand(
        "papyra_cli.commands.plugins:plugins", "List the installed plugins, and whether they work."
    ),
    "top": OwnCommand("papyra_cli.commands.top:top", "Show what the actors of a running system do now."),
    "tree": OwnCommand(
        "papyra_cli.commands.tree:tree", "Show the actors of a running system, each below its parent."
    ),
}
"""Also declared as entry points. Listed here so that they work without metadata and start sooner."""


def command_names() -> dict[str, str]:
    """Return every command with its short help. Loads none, and raises for no plugin.

    Commands that ``PAPYRA_PLUGINS`` does not allow are listed too; running one reports it.
    """
    names = {printable(name): f"(from {printable(owner)})" for name, owner in installed_names(GROUP).items()}
    return names | {name: own.help for name, own in OWN_COMMANDS.items()}


def installed_names(group: str) -> dict[str, str]:
    """Return each name in an entry-point group with the distribution that brings it, as in ``"toy 1.0"``.

    Reads metadata and loads nothing. Not by `papyra.plugins`, which also reads each distribution's
    requirements: that takes longer than the rest of ``papyra --help``. A distribution whose files can't be
    read is left out.
    """
    found: dict[str, str] = {}
    for distribution in distributions():
        try:
            names = [point.name for point in distribution.entry_points if point.group == group and point.name]
            label = _label(distribution) if names else ""
        except Exception:  # noqa: BLE001, S112 - files of third parties may be malformed in any way; the help must still work
            continue
        for name in names:
            found.setdefault(name, label)
    return found


def _label(distribution: Distribution) -> str:
    # Not `distribution.metadata`: the email parser behind it costs 12 ms.
    text = distribution.read_text("METADATA") or ""
    headers: dict[str, str] = dict(_HEADER.findall(text.partition("\n\n")[0]))
    return f"{headers.get('Name', 'an unknown distribution')} {headers.get('Version', '')}".rstrip()


def load_command(name: str) -> click.Command | None:
    """Load a command, our own first; None if it does not exist, a `PluginError` if it can't be used."""
    if name in OWN_COMMANDS:
        module, _, attribute = OWN_COMMANDS[name].target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command
    from papyra.exceptions import PluginError
    from papyra.plugins import find_plugins

    plugin = find_plugins(GROUP).get(name)
    if plugin is None:
        return None
    with redirect_stdout(sys.stderr):  # a third party's import may print
        loaded = plugin.load()
    if not isinstance(loaded, click.Command):
        raise PluginError(
            f"the plugin {name!r} of {plugin.distribution} can't be used: {plugin.target} is not a click.Command"
        )
    return loaded


def check_command(loaded: object) -> tuple[str, ...]:
    """Return the capabilities of a command plugin: none. An object of another type is a `PluginError`."""
    from papyra.exceptions import PluginError

    if isinstance(loaded, click.Command):
        return ()
    problem = f"{loaded!r} is not a click.Command"
    raise PluginError(problem) from TypeError(problem)
