"""From an exception to one line on stderr and an exit code."""

from __future__ import annotations

import sys
import traceback
from typing import cast

import click

from papyra_cli._escape import printable
from papyra_cli._exit_codes import ExitCode

__all__ = ["Failure", "explain", "report", "say"]


_UNEXPECTED = "unexpected: "


class Failure(Exception):
    """An error that the command foresaw: what is wrong and what to do, in one line."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.UNAVAILABLE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def say(kind: str, message: str, color: bool | None = None) -> None:
    """Write ``papyra: KIND: message`` to stderr, in one line whatever the message holds."""
    style = {"error": "red", "warning": "yellow"}.get(kind)
    label = click.style(f"{kind}:", fg=style, bold=True) if style else f"{kind}:"
    click.echo(f"papyra: {label} {printable(message)}", err=True, color=color)


def report(error: BaseException, *, debug: bool = False, color: bool | None = None) -> ExitCode | int:
    """Tell of ``error`` on stderr, with its traceback if ``debug``, and return the exit code for it."""
    message, code = explain(error)
    if code == ExitCode.NO and not debug and message.startswith(_UNEXPECTED):
        message += " (--debug shows where)"
    if debug and not isinstance(error, click.ClickException | click.Abort | KeyboardInterrupt):
        for block in traceback.format_exception(error):
            for line in block.splitlines():
                click.echo(printable(line), err=True)
    say("error", message, color)
    return code


def explain(error: BaseException) -> tuple[str, ExitCode | int]:
    """Return what to say of ``error`` and the exit code for it."""
    error = _innermost(error)
    if isinstance(error, Failure):
        return str(error), error.exit_code
    if isinstance(error, click.UsageError):
        return _usage(error), ExitCode.USAGE
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):  # Abort: Ctrl-C or the end of input at a prompt
        return "interrupted", ExitCode.INTERRUPTED
    if _is_unavailable(error):
        return _with_file(error), ExitCode.UNAVAILABLE
    text = _with_file(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return f"{_UNEXPECTED}{text}", ExitCode.NO


def _innermost(error: BaseException) -> BaseException:
    """Take a lone error out of its groups: task groups of backends and commands wrap theirs."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    return _innermost(group.exceptions[0]) if len(group.exceptions) == 1 else group


def _no_such_option(error: click.NoSuchOption) -> str:
    """Say it the same way with every version of click."""
    guess = f", did you mean {error.possibilities[0]!r}?" if error.possibilities else ""
    return f"no such option {error.option_name!r}{guess}"


def _usage(error: click.UsageError) -> str:
    message = _no_such_option(error) if isinstance(error, click.NoSuchOption) else error.format_message()
    message = message.rstrip(".")
    if message[:2].istitle():  # click's begin like sentences
        message = message[0].lower() + message[1:]
    if error.ctx is None:
        return message
    return f"{message}; see '{error.ctx.command_path} --help'"


def _is_unavailable(error: BaseException) -> bool:
    if isinstance(error, _LACKING):
        return True
    # Looked up, not imported: what core never loaded, it can't have raised.
    core = sys.modules.get("papyra.exceptions")
    return core is not None and isinstance(error, (core.PersistenceError, core.PluginError))


_LACKING = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ConnectionError,
    BlockingIOError,
)


def _with_file(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
