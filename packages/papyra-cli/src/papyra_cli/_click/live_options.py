"""The options that name a running system."""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import click

from papyra_cli._click.options import output_command, with_options
from papyra_cli._live.choose import choose_live

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra_cli._output.output import Output

__all__ = ["LIVE_EXIT_CODES", "live_command"]

LIVE_EXIT_CODES = {
    0: "done",
    2: "several systems run, and none was named",
    3: "no system runs with an admin socket",
}


def live_command(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command its `Output`, a function that finds the socket, and the options that name the system."""

    @with_options(
        click.option(
            "--system", metavar="ID", help="The system with this id. [default: the only one that runs]"
        ),
        click.option("--pid", type=click.IntRange(min=1), metavar="N", help="The system in this process."),
        click.option("--socket", metavar="PATH", type=click.Path(), help="The admin socket at this path."),
    )
    @output_command
    @wraps(function)
    def wrapped(out: Output, system: str | None, pid: int | None, socket: str | None, **kwargs: Any) -> None:
        function(out, partial(choose_live, system, pid, socket), **kwargs)

    return wrapped
