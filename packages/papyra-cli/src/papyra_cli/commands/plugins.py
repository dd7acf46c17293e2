"""``papyra plugins``: the installed plugins, and whether they work."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import click

from papyra.cluster import check_callable
from papyra.hook_discovery import check_hooks
from papyra.instrument_discovery import check_instrument
from papyra.persistence.registry import check_backend
from papyra.plugins import GROUPS, PluginInfo, PluginStatus, all_plugins, inspect_plugin
from papyra_cli._click.commands import ManualCommand
from papyra_cli._click.options import output_command
from papyra_cli._click.registry import check_command
from papyra_cli._exit_codes import ExitCode
from papyra_cli._output.formats import count
from papyra_cli._output.output import Styled, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from papyra_cli._output.output import Output

__all__ = ["plugins"]

_COLORS = {
    PluginStatus.OK: "green",
    PluginStatus.BROKEN: "red",
    PluginStatus.INCOMPATIBLE: "red",
    PluginStatus.DISABLED: "yellow",
    PluginStatus.SHADOWED: "yellow",
}

_LINE = ("name", "group", "distribution", "target", "api", "capabilities", "status", "load time", "reason")


_CHECKS: dict[str, Callable[[object], Iterable[str]]] = {
    "papyra.backends": check_backend,
    "papyra.clusters": check_callable,
    "papyra.codecs": check_callable,
    "papyra.commands": check_command,
    "papyra.hooks": check_hooks,
    "papyra.instruments": check_instrument,
    "papyra.transports": check_callable,
}


@click.command(
    cls=ManualCommand,
    lines={"plugin": _LINE, "status": ("how many, and how many are not ok",)},
    exit_codes={0: "done", 1: "with --check: a plugin is not ok"},
    examples=[
        ("papyra plugins", "what is installed, and does it work?"),
        ("papyra plugins --check -o json", "for a test of an installation"),
    ],
)
@click.option("--check", is_flag=True, help="Exit with 1 if one of them is not ok.")
@output_command
def plugins(out: Output, check: bool) -> None:
    """List the installed plugins, and whether they work.

    These are backends, commands, hooks and instruments, our own too; each is loaded once.
    """
    with redirect_stdout(sys.stderr):  # a third party's import may print
        infos = [inspect_plugin(plugin, _CHECKS[plugin.group]) for plugin in all_plugins()]
    bad = sum(info.status is not PluginStatus.OK for info in infos)
    total = count(len(infos), "plugin", "plugins")
    note = Styled(f"{total}, {bad:,} not ok", "red") if bad else Styled(f"{total}, all ok", "green")
    out.show(infos, infos, _tables(infos) if out.format == "table" else [_lines(infos)], note)
    if check and bad:
        click.get_current_context().exit(ExitCode.NO)


def _lines(infos: Sequence[PluginInfo]) -> Table:
    """Return a table for pipes: every field in a column of its own."""
    table = Table("plugin", "Plugins", _LINE)
    for info in infos:
        owner, status = _owner(info), _status(info)
        capabilities = " ".join(info.capabilities) or "-"
        rest = (capabilities, status, _load_time(info), info.reason or "-")
        table.rows.append((info.name, info.group, owner, info.target, info.api or "-", *rest))
    return table


def _tables(infos: Sequence[PluginInfo]) -> list[Table]:
    """Return a table for each group; long values share the last column, so that it fits a terminal."""
    tables: list[Table] = []
    for group in GROUPS:
        table = Table("plugin", group, ("name", "distribution", "api", "status", "load time", "details"))
        for info in infos:
            if info.group == group:
                details = "; ".join(filter(None, (info.reason, info.target, " ".join(info.capabilities))))
                shown = (info.name, _owner(info), info.api or "-", _status(info), _load_time(info), details)
                table.rows.append(shown)
        tables.append(table)
    return tables


def _owner(info: PluginInfo) -> str:
    return f"{info.distribution} {info.version}".rstrip()


def _status(info: PluginInfo) -> Styled:
    return Styled(str(info.status), _COLORS[info.status])


def _load_time(info: PluginInfo) -> str:
    return "-" if info.load_seconds is None else f"{info.load_seconds * 1000:.1f} ms"
