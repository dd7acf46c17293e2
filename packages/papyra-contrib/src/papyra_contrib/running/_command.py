"""``papyra run module:main``: a service without a ``__main__`` of its own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from papyra import units
from papyra_contrib.running._run import run as run_program

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run"]


def _load(text: str, what: str) -> Callable[..., Any]:
    """Return the function that ``module:function`` names; it may be in the current folder."""
    module, colon, function = text.partition(":")
    if not (module and colon and function):
        raise click.BadParameter(
            f"{text!r} does not name a function. Write module:function, as in shop:main."
        )
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and an import inside of it fails: the traceback says where
        raise click.BadParameter(
            f"module {module!r} was not found. Run the command in the folder that holds it, or pass --app-dir."
        ) from None
    target: Callable[..., Any] | None = getattr(loaded, function, None)
    if not callable(target):
        raise click.BadParameter(f"{text!r}: module {module!r} has no {what} {function!r}.")
    return target


def _read_deadline(context: click.Context, parameter: click.Parameter, text: str) -> float:
    try:
        return units.duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from None


@click.command()
@click.argument("program", metavar="MODULE:FUNCTION")
@click.option("--system", "system_name", metavar="MODULE:FUNCTION", help="A function that makes the system.")
@click.option("--backend", type=click.Choice(["asyncio", "trio"]), default="asyncio", show_default=True)
@click.option(
    "--deadline", default="25s", show_default=True, callback=_read_deadline, help="How long a stop may take."
)
@click.option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False),
    default=".",
    show_default=True,
    help="Where to look for the module first.",
)
@click.pass_context
def run(
    context: click.Context, program: str, system_name: str | None, backend: str, deadline: float, app_dir: str
) -> None:
    """Run a program as a service, and stop it in order at a signal.

    MODULE:FUNCTION names an async function that takes the system, as in shop:main. The first SIGINT or
    SIGTERM stops the actors in order, a second one cancels what still runs, a third one kills.

    Exit status: 0 after an orderly stop, 1 if something was cut because its time was over.
    """
    sys.path.insert(0, str(Path(app_dir).resolve()))
    main = _load(program, "function")
    make_system = _load(system_name, "function") if system_name is not None else None
    context.exit(run_program(main, system=make_system, backend=backend, deadline=deadline))
