"""Options that several commands share, and the reading of their values."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from papyra.persistence.url import check_path
from papyra_cli._click.completion import backend_urls
from papyra_cli._errors import say
from papyra_cli._output.formats import duration_with_unit, format_time, odd_moment, read_moment
from papyra_cli._output.output import Output
from papyra_cli._store.choose import choose_store

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "dry_run_option",
    "limit_option",
    "output_command",
    "quarantine_dir_option",
    "read_path",
    "reading",
    "since_option",
    "store_command",
    "until_option",
    "wait_option",
    "with_options",
    "yes_option",
]

_F = TypeVar("_F", bound="Callable[..., Any]")


def reading(read: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Return an option's callback that reads the value with ``read``.

    A `ValueError` becomes a usage error.
    """

    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
        try:
            return None if value is None else read(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: {error}", ctx, param) from error

    return callback


def _read_moment(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    moment: float | None = reading(read_moment)(ctx, param, value)
    if moment is not None and not ctx.resilient_parsing and (odd := odd_moment(moment)):
        say("note", f"{param.opts[0]} {value}: {format_time(moment, 'brief')} {odd}")
    return moment


def _moment_option(flag: str, text: str) -> Callable[[_F], _F]:
    text = (
        f"{text}: 02:00, today, yesterday, ISO 8601 as in 2026-07-01T12:00, a span ago as in 15m, or Unix time. "
        "[default: no limit]"
    )
    return click.option(flag, metavar="MOMENT", callback=_read_moment, help=text)


def read_path(text: str) -> str:
    """Return the path of a file or folder; one that only a shell would understand is a `ValueError`."""
    check_path(text)
    return text


dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Report what would be done, and change nothing."
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help="Show the newest N; 0 for all. [default: 100, and all in the JSON modes]",
)
quarantine_dir_option = click.option(
    "--quarantine-dir",
    metavar="DIR",
    type=click.Path(),
    callback=reading(read_path),
    help="The folder for quarantine files. [default: the folder of the store]",
)
since_option = _moment_option("--since", "Only records from this time on")
until_option = _moment_option("--until", "Only records up to this time")
wait_option = click.option(
    "--wait",
    metavar="DURATION",
    callback=reading(duration_with_unit),
    help="Wait at most this long for a lock that another process holds, as in 10s. [default: no limit]",
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def with_options(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Give a command these options and arguments, in this order."""

    def decorate(function: _F) -> _F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def output_command(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command its `Output` as first argument."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        function(Output(click.get_current_context()), *args, **kwargs)

    return wrapped


def store_command(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command its `Output`, the chosen `Store`, and the options that choose it."""

    @click.option(
        "--path",
        metavar="FILE",
        type=click.Path(),
        callback=reading(read_path),
        help="The store in this file, of any installed backend that recognizes it, with its rotated files. "
        "[default: the configured store, see 'papyra config view']",
    )
    @click.option(
        "--backend",
        metavar="URL",
        help="The store at this URL, as in json:./papyra.ndjson or sqlite:./papyra.db.",
        shell_complete=backend_urls,
    )
    @wait_option
    @output_command
    @wraps(function)
    def wrapped(
        out: Output, *args: Any, path: str | None, backend: str | None, wait: float | None, **kwargs: Any
    ) -> None:
        function(out, replace(choose_store(path, backend), wait=wait), *args, **kwargs)

    return wrapped
