"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from papyra_cli._click.completion import backend_urls
from papyra_cli._output.formats import read_moment
from papyra_cli._output.output import Output
from papyra_cli._store.choose import choose_store

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "dry_run_option",
    "limit_option",
    "output_command",
    "quarantine_dir_option",
    "reading",
    "since_option",
    "store_command",
    "until_option",
    "yes_option",
]

_F = TypeVar("_F", bound="Callable[..., Any]")


def reading(read: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Make an option's callback from a function that raises `ValueError` with what it expected."""

    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        try:
            return None if value is None else read(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: {error}", ctx, param) from error

    return callback


def _moment_option(flag: str, text: str) -> Callable[[_F], _F]:
    text = f"{text}: Unix time, ISO 8601 as in 2026-07-01T12:00, or a span ago as in 15m. [default: no limit]"
    return click.option(flag, metavar="MOMENT", callback=reading(read_moment), help=text)


dry_run_option = click.option("--dry-run", is_flag=True, help="Tell what would be done, and change nothing.")
limit_option = click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=100,
    show_default=True,
    help="Show the newest N.",
)
quarantine_dir_option = click.option(
    "--quarantine-dir",
    metavar="DIR",
    type=click.Path(),
    help="Where quarantine files go. [default: beside the store]",
)
since_option = _moment_option("--since", "Only what is not older")
until_option = _moment_option("--until", "Only what is not newer")
yes_option = click.option("-y", "--yes", is_flag=True, help="Go on without asking.")


def output_command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command's first argument its `Output`."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        function(Output(click.get_current_context()), *args, **kwargs)

    return wrapped


def store_command(function: Callable[..., None]) -> Callable[..., None]:
    """Like `output_command`, with the chosen `Store` as second argument."""

    @click.option(
        "--path",
        metavar="FILE",
        type=click.Path(),
        help="The store is this file, or the rotated set that it heads. [default: the store that is configured, "
        "see 'papyra config view']",
    )
    @click.option(
        "--backend",
        metavar="URL",
        help="The store is what this URL names, as in json:./papyra.ndjson or sqlite:./papyra.db.",
        shell_complete=backend_urls,
    )
    @output_command
    @wraps(function)
    def wrapped(out: Output, *args: Any, path: str | None, backend: str | None, **kwargs: Any) -> None:
        function(out, choose_store(path, backend), *args, **kwargs)

    return wrapped
