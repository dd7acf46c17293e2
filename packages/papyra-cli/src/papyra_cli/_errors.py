"""Exceptions as one line on stderr and an exit code: one code for one cause, however the store was named."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from typing import cast

import click

from papyra_cli._escape import printable
from papyra_cli._exit_codes import ExitCode

__all__ = ["Failure", "explain", "report", "say"]


_UNEXPECTED = "unexpected: "


class Failure(Exception):
    """An error with a text for the user: the problem, then what to do."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.UNAVAILABLE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def say(kind: str, message: str, color: bool | None = None) -> None:
    """Write ``papyra: KIND: message`` to stderr as one line, with control characters escaped."""
    style = {"error": "red", "warning": "yellow"}.get(kind)
    label = click.style(f"{kind}:", fg=style, bold=True) if style else f"{kind}:"
    click.echo(f"papyra: {label} {printable(message)}", err=True, color=color)


def report(error: BaseException, *, debug: bool = False, color: bool | None = None) -> ExitCode | int:
    """Report ``error`` on stderr, with its traceback if ``debug``, and return the exit code for it."""
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
    """Return the text for ``error`` and its exit code."""
    error = _innermost(error)
    if isinstance(error, Failure):
        return str(error), error.exit_code
    if isinstance(error, click.UsageError):
        return _usage(error), ExitCode.USAGE
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):  # Abort: Ctrl-C or the end of input at a prompt
        return "interrupted", ExitCode.INTERRUPTED
    cause = _system_error(error)
    if _is_full(error, cause):
        return _with_remedy(error, cause), ExitCode.NO
    if isinstance(cause, FileNotFoundError) and _folder_is_gone():
        return "the current folder was deleted. Change to another one and try again", ExitCode.UNAVAILABLE
    if _is_unavailable(error):
        return _with_remedy(error, cause), ExitCode.UNAVAILABLE
    text = _with_file(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return f"{_UNEXPECTED}{text}", ExitCode.NO


def _system_error(error: BaseException) -> OSError | None:
    """Return the error of the operating system that ``error`` is, or was raised from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, OSError):
            return cause
        seen.add(id(cause))
        cause = cause.__cause__
    return None


def _is_full(error: BaseException, cause: OSError | None) -> bool:
    if cause is not None:
        return cause.errno in _DISK_FULL
    core = sys.modules.get("papyra.exceptions")  # as in `_is_unavailable`
    return core is not None and isinstance(error, core.StoreFull)


def _folder_is_gone() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - only whether it raises matters
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def _with_remedy(error: BaseException, cause: OSError | None) -> str:
    text = _with_file(error)
    if cause is None or (cause is error and cause.errno in _CLEAR):
        return text
    remedy = _REMEDIES.get(cause.errno or 0, "")
    return f"{text}; {remedy}" if remedy and remedy not in text else text


_CLEAR = (errno.EACCES, errno.EPERM)
"""Errors whose own text, with the file, says enough."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

_REMEDIES = {
    errno.ENOSPC: "make room on the disk and try again",
    errno.EDQUOT: "the user's disk quota is used up. Make room and try again",
    errno.EROFS: "the file system is mounted read-only. Mount it writable, or work on a copy",
    errno.EACCES: "check the owner and the mode of the file and of its folders, or run as their owner",
    errno.EPERM: "check the owner and the mode of the file and of its folders, or run as their owner",
    errno.ENOLCK: "the file system has no locks, as NFS without a lock service. Use a local disk, or mount it with locks",
    errno.EIO: "the disk reports an error. Look into the system's log, and copy what can still be read",
    errno.ESTALE: "the file server has replaced the file. Mount it again and retry",
    errno.EMFILE: "too many files are open. Raise the limit with ulimit -n",
}
"""What to do about an error of the operating system, if its text alone does not say."""


def _innermost(error: BaseException) -> BaseException:
    """Take a single error out of its groups; task groups of backends and commands wrap it."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    return _innermost(group.exceptions[0]) if len(group.exceptions) == 1 else group


def _no_such_option(error: click.NoSuchOption) -> str:
    """Return the same text with every version of click."""
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
    # Looked up, not imported: a module that was never loaded has raised nothing.
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
