"""Groups of commands that behave the same whatever click's version is."""

from __future__ import annotations

from difflib import get_close_matches

import click

from papyra_cli._click.commands import ManualCommand, ManualMixin
from papyra_cli._exit_codes import ExitCode

__all__ = ["HelpfulGroup"]


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
