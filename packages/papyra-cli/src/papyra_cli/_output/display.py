"""The options for output that every command takes, and their meaning for this terminal."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

__all__ = ["Display", "display_params", "terminal_width"]

_KEY = "papyra_cli.display"


@dataclass(slots=True)
class Display:
    """The options for the output of one invocation."""

    color: str = "auto"
    debug: bool = False
    format: str = "auto"
    time: str = "iso"

    @classmethod
    def of(cls, ctx: click.Context) -> Display:
        """Return the one of this invocation, the same for the root and every command below it."""
        # ctx.meta and not ctx.obj, which belongs to the commands of other distributions.
        display: Display = ctx.meta.setdefault(_KEY, cls())
        return display

    def colored(self, stream: TextIO) -> bool:
        """Decide on colour.

        The option, then ``NO_COLOR``, ``FORCE_COLOR``, then whether ``stream`` is a terminal.
        """
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        return bool(os.environ.get("FORCE_COLOR")) or _is_able(stream)

    def resolved_format(self) -> str:
        """Return ``table``, ``plain``, ``json`` or ``jsonl``; without a choice the terminal decides."""
        if self.format != "auto":
            return self.format
        return "table" if sys.stdout.isatty() else "plain"

    def animated(self) -> bool:
        """Return whether stderr can show a line that is redrawn."""
        return _is_able(sys.stderr)


def terminal_width(stream: TextIO) -> int:
    """Return the number of columns of the terminal behind ``stream``, or the value of ``COLUMNS``."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 120


def _is_able(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _setter(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None and value is not False:  # it may have been given to a group above
            setattr(Display.of(ctx), name, value)

    return callback


def display_params() -> list[click.Option]:
    """Return new options for output; every command and every group has them."""
    return [
        click.Option(
            ["-o", "--output"],
            type=click.Choice(["auto", "table", "plain", "json", "jsonl"]),
            expose_value=False,
            callback=_setter("format"),
            help="How to print: a table, plain tab-separated lines, one JSON document, or one JSON object a line. "
            "[default: a table on a terminal, plain in a pipe]",
        ),
        click.Option(
            ["--time"],
            type=click.Choice(["iso", "unix", "relative"]),
            expose_value=False,
            callback=_setter("time"),
            help="Times in tables and plain lines: local ISO 8601, Unix seconds, or how long ago. [default: iso]",
        ),
        click.Option(
            ["--color"],
            type=click.Choice(["auto", "always", "never"]),
            expose_value=False,
            is_eager=True,
            callback=_setter("color"),
            help="When to use colour. [default: auto, which is what NO_COLOR, FORCE_COLOR and the terminal say]",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_setter("debug"),
            help="Show the traceback of an error.",
        ),
    ]
