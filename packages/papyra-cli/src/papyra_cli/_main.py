"""The root command and the process: streams, logging, exit codes."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from papyra_cli import _errors
from papyra_cli._click.commands import HelpfulGroup
from papyra_cli._click.registry import command_names, load_command
from papyra_cli._exit_codes import ExitCode
from papyra_cli._output.display import Display

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from click.shell_completion import CompletionItem

__all__ = ["papyra"]


class RootGroup(HelpfulGroup):
    """A group whose commands are entry points, each loaded when it runs and not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, without loading one."""
        return sorted(command_names())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command; one that can't be used is a `PluginError`, and None for a completion."""
        if not ctx.resilient_parsing:
            return load_command(cmd_name)
        try:
            return load_command(cmd_name)
        except Exception:  # noqa: BLE001 - a completion can't show an error, and must not garble the line
            return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from their names alone."""
        rows = sorted(command_names().items())
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of commands, without loading one."""
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=text)
            for name, text in sorted(command_names().items())
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> None:
        """Run a command; every error becomes one line on stderr and an exit code."""
        try:
            with _warnings_on_stderr(Display.of(ctx)):
                super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except BrokenPipeError:
            _close_stdout()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place where all errors end, each as one line
            display = Display.of(ctx)
            ctx.exit(_errors.report(error, debug=display.debug, color=display.colored(sys.stderr)))

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the whole command and exit with one of `ExitCode`."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        _open_missing_streams()
        if "_PAPYRA_COMPLETE" in os.environ:
            from papyra_cli._click import shell_scripts

            shell_scripts.register()
        try:
            # `invoke` returns None, so any other result is the code of a `ctx.exit`.
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except (click.ClickException, click.Abort) as error:
            code = _errors.report(error)
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            _close_stdout()
        except OSError as error:  # a full disk: buffered output meets it only here
            code = code or _errors.report(error)
            _close_stdout()
        sys.exit(code or ExitCode.OK)


class _OneLine(logging.Handler):
    """Writes warnings and errors to stderr, one line each, with control characters escaped."""

    def __init__(self, display: Display) -> None:
        super().__init__(logging.WARNING)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        _errors.say(record.levelname.lower(), record.getMessage(), self._display.colored(sys.stderr))


@contextmanager
def _warnings_on_stderr(display: Display) -> Generator[None]:
    """Show our own warnings like the command's errors. Show those of others if nobody has set up logging."""
    handler, ours = _OneLine(display), logging.getLogger("papyra")
    before, logging.lastResort = (logging.lastResort, ours.propagate), handler
    ours.addHandler(handler)
    ours.propagate = False  # an application's settings may set up logging, and would print them again
    try:
        yield
    finally:
        ours.removeHandler(handler)
        logging.lastResort, ours.propagate = before


def _open_missing_streams() -> None:
    """Open the null device for a standard stream that was closed (``2>&-``).

    Otherwise a store's file could get that descriptor, and output to descriptor 2 would be written into the
    store.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            # Never closed, like the stream that it replaces.
            setattr(sys, name, open(nowhere, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - kept open, see above


def _close_stdout() -> None:
    """Discard the rest of the output after the reader has left (``| head``), so that the exit is quiet."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a device, not a path
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"papyra {version('papyra-cli')}")
        ctx.exit()


@click.group(
    "papyra",
    cls=RootGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=[
        ("papyra inspect summary --path papyra.ndjson", "what is in this store?"),
        ("papyra doctor run --path papyra.ndjson", "is all well with it?"),
        (
            'eval "$(_PAPYRA_COMPLETE=bash_source papyra)"',
            "complete words in this bash; also zsh_source, fish_source",
        ),
    ],
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Show the version and exit.",
)  # fmt: skip
def papyra() -> None:
    """Look after the record of a Papyra actor system.

    'papyra COMMAND --help' describes a command, its output and its exit codes. The options for output may
    come before or after the name of a command.
    """
