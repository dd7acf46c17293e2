"""Commands and groups whose help is a manual page, with lines of output, exit codes and examples."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from papyra_cli._exit_codes import ExitCode
from papyra_cli._output.display import display_params

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Example", "HelpfulGroup", "ManualCommand", "ManualMixin"]


class Example(NamedTuple):
    """A command line and its purpose; a test runs it on a sample store."""

    line: str
    text: str


_COMMON: dict[int, str] = {
    ExitCode.USAGE: "the command line is wrong or incomplete",
    ExitCode.INTERRUPTED: "Ctrl-C",
}
_UNAVAILABLE: dict[int, str] = {
    ExitCode.UNAVAILABLE: "the store, or the plugin that it needs, is unavailable"
}
_STORE_PARAMS = ("backend", "source")  # a command with one of them opens a store


class ManualMixin(click.Command):
    """A command with the options for output, whose help ends with its lines, exit codes and examples.

    ``lines`` maps each word that a line in a pipe may begin with to the columns that follow it.
    ``exit_codes`` explains the codes of this command; those that all commands share are added.
    """

    def __init__(
        self,
        *args: Any,
        lines: Mapping[str, Sequence[str]] | None = None,
        exit_codes: Mapping[int, str] | None = None,
        examples: Iterable[tuple[str, str]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(display_params())
        self.lines = lines or {}
        self.exit_codes = self._all_exit_codes(exit_codes) if exit_codes else {}
        self.examples = [Example(*example) for example in examples]

    def _all_exit_codes(self, own: Mapping[int, str]) -> dict[int, str]:
        failure = "an unexpected failure"
        codes = {**_COMMON, **own, ExitCode.NO: f"{own[1]}; or {failure}" if 1 in own else failure}
        if any(param.name in _STORE_PARAMS for param in self.params):
            codes |= _UNAVAILABLE
        return dict(sorted(codes.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections below the options."""
        if self.lines:
            rows = [(word, ", ".join(columns)) for word, columns in self.lines.items()]
            _write_section(formatter, "Lines in a pipe (a word, then columns, with tabs between)", rows)
        if self.exit_codes:
            rows = [(str(int(code)), text) for code, text in self.exit_codes.items()]
            _write_section(formatter, "Exit codes", rows)
        if self.examples:
            with formatter.section("Examples"):
                for line, text in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}# {text}\n")
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")  # unwrapped, to be copied
        super().format_epilog(ctx, formatter)


class ManualCommand(ManualMixin):
    """A command that is not a group."""


class HelpfulGroup(ManualMixin, click.Group):
    """A group that shows its help on stderr if no command is given, and suggests names for misspelled ones.

    The options for output may be given before the name of a command or after it.
    """

    command_class = ManualCommand

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; without any, show the help and exit with 2."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True, color=ctx.color)
            ctx.exit(ExitCode.USAGE)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            problem = f"no such option {error.option_name!r} (options of a command come after its name)"
            raise click.UsageError(problem, ctx) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            guess = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f", did you mean {guess[0]!r}?" if guess else ""
            raise click.UsageError(f"no such command {args[0]!r}{hint}", ctx) from error


def _write_section(formatter: click.HelpFormatter, title: str, rows: list[tuple[str, str]]) -> None:
    with formatter.section(title):
        formatter.write_dl(rows)
