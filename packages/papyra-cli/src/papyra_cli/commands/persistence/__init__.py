"""``papyra persistence``: maintenance of a store."""

from __future__ import annotations

import click

from papyra_cli._click.commands import HelpfulGroup
from papyra_cli.commands.persistence.compact import compact
from papyra_cli.commands.persistence.copy import backup, copy, restore
from papyra_cli.commands.persistence.inspect import inspect
from papyra_cli.commands.persistence.recover import recover
from papyra_cli.commands.persistence.scan import scan
from papyra_cli.commands.persistence.startup_check import startup_check

__all__ = ["persistence"]


@click.group(
    cls=HelpfulGroup,
    examples=[
        ("papyra persistence scan --path papyra.ndjson", "is this file in order?"),
        (
            "PAPYRA_PERSISTENCE=json:./papyra.ndjson papyra persistence inspect",
            "the store from the environment",
        ),
    ],
)
def persistence() -> None:
    """Scan, recover, compact, inspect and copy a store of facts.

    The store is a file (--path), or the URL of any installed backend: --backend, or PAPYRA_PERSISTENCE, or
    persistence in [tool.papyra] of the nearest pyproject.toml, or the settings that PAPYRA_SETTINGS_MODULE
    names.
    """


for command in (scan, recover, compact, inspect, startup_check, copy, backup, restore):
    persistence.add_command(command)
