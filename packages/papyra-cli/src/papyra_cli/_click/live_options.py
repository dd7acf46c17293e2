"""The options that name a running system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["live_options"]

_F = TypeVar("_F", bound="Callable[..., Any]")


def live_options(function: _F) -> _F:
    """Add ``--system``, ``--pid`` and ``--socket``."""
    for option in (
        click.option("--socket", metavar="PATH", type=click.Path(), help="The admin socket at this path."),
        click.option("--pid", type=click.IntRange(min=1), metavar="N", help="The system in this process."),
        click.option(
            "--system", metavar="ID", help="The system with this id. [default: the only one that runs]"
        ),
    ):
        function = option(function)
    return function
