"""The options that name a running system."""

from __future__ import annotations

import click

from papyra_cli._click.options import with_options

__all__ = ["live_options"]

live_options = with_options(
    click.option("--system", metavar="ID", help="The system with this id. [default: the only one that runs]"),
    click.option("--pid", type=click.IntRange(min=1), metavar="N", help="The system in this process."),
    click.option("--socket", metavar="PATH", type=click.Path(), help="The admin socket at this path."),
)
