"""The names of all commands, known without loading one, and how one is loaded."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from importlib import import_module
from typing import NamedTuple

import click

from papyra_cli._escape import printable

__all__ = ["GROUP", "OWN_COMMANDS", "OwnCommand", "check_command", "command_names", "load_command"]

GROUP = "papyra.commands"


class OwnCommand(NamedTuple):
    """Where one of our own commands is, and what `papyra --help` says of it; a test holds both true."""

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
        "papyra_cli.commands.inspect:inspect", "Read the record of a system: events, audits, dead letters."
    ),
    "metrics": OwnCommand("papyra_cli.commands.metrics:metrics", "Show the counters of a store."),
    "persistence": OwnCommand(
        "papyra_cli.commands.persistence:persistence", "Scan, recover, compact and inspect a store of facts."
    ),
    "plugins": OwnCommand(
        "papyra_cli.commands.plugins:plugins", "List the installed plugins, and whether they work."
    ),
}
"""Also declared as entry points; listed here so that they work without any metadata, and start sooner."""


def command_names() -> dict[str, str]:
    """Return every command with its short help. Loads none, and never raises for a plugin.

    Those that ``PAPYRA_PLUGINS`` leaves out are listed, too: running one says so.
    """
    from papyra_cli._click.listing import installed_names

    names = {printable(name): f"(from {printable(owner)})" for name, owner in installed_names(GROUP).items()}
    return names | {name: own.help for name, own in OWN_COMMANDS.items()}


def load_command(name: str) -> click.Command | None:
    """Load a command, our own first; None if there is none, a `PluginError` if it can't be used."""
    if name in OWN_COMMANDS:
        module, _, attribute = OWN_COMMANDS[name].target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command
    from papyra.exceptions import PluginError
    from papyra.plugins import find_plugins

    plugin = find_plugins(GROUP).get(name)
    if plugin is None:
        return None
    with redirect_stdout(sys.stderr):  # a stranger's import may print
        loaded = plugin.load()
    if not isinstance(loaded, click.Command):
        raise PluginError(
            f"the plugin {name!r} of {plugin.distribution} can't be used: {plugin.target} is not a click.Command"
        )
    return loaded


def check_command(loaded: object) -> tuple[str, ...]:
    """Return a command plugin's capabilities, of which there are none; what is no command is a `PluginError`."""
    from papyra.exceptions import PluginError

    if isinstance(loaded, click.Command):
        return ()
    problem = f"{loaded!r} is not a click.Command"
    raise PluginError(problem) from TypeError(problem)
