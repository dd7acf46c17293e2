"""The command ``papyra``: look after the record of an actor system from a shell.

Other distributions add commands through the entry-point group ``papyra.commands``. The exit codes are a
documented contract, see `papyra_cli.ExitCode`.
"""

from __future__ import annotations

from papyra_cli._exit_codes import ExitCode

__all__ = ["ExitCode", "main"]


def main() -> None:
    """Run the command with the arguments of this process, and exit."""
    from papyra_cli._main import papyra

    papyra.main(prog_name="papyra")
