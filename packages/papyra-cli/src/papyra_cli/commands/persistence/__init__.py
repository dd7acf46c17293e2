"""``papyra persistence``: care for a store of facts."""

from __future__ import annotations

import click

from papyra_cli._click.commands import HelpfulGroup
from papyra_cli.commands.persistence.compact import compact
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
    """Scan, recover, compact and inspect a store of facts.

    The store is a file (--path), any installed backend (--backend), or what PAPYRA_PERSISTENCE, persistence in
    [tool.papyra] of the nearest pyproject.toml, or PAPYRA_SETTINGS_MODULE says.
    """


for command in (scan, recover, compact, inspect, startup_check):
    persistence.add_command(command)
