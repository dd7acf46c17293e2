"""Commands whose help is a manual page: what comes out, what the exit codes mean, and examples that run."""

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
    """A command line, and what it is good for; a test runs it on a sample store."""

    line: str
    text: str


_COMMON: dict[int, str] = {
    ExitCode.USAGE: "the command line is wrong or says too little",
    ExitCode.INTERRUPTED: "Ctrl-C",
}
_UNAVAILABLE: dict[int, str] = {ExitCode.UNAVAILABLE: "the store, or the plugin that it needs, can't be had"}


class ManualMixin(click.Command):
    """A command that takes the options for output, and whose help ends with its lines, exit codes and examples.

    ``lines`` gives, for each word that a line in a pipe may begin with, the columns that follow it. ``exit_codes``
    says what the codes mean that are this command's own; those that all commands share are added.
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
        if any(param.name == "backend" for param in self.params):
            codes |= _UNAVAILABLE
        return dict(sorted(codes.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what stands below the options."""
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
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")  # whole, to be copied
        super().format_epilog(ctx, formatter)


class ManualCommand(ManualMixin):
    """A command that is no group."""


class HelpfulGroup(ManualMixin, click.Group):
    """A group that shows its help on stderr where no command is given, and guesses at misspelled ones.

    The options for output may stand before the name of a command or after it.
    """

    command_class = ManualCommand

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; nothing at all is answered with the help and exit code 2."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True, color=ctx.color)
            ctx.exit(ExitCode.USAGE)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            problem = f"no such option {error.option_name!r} (options of a command stand behind its name)"
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
