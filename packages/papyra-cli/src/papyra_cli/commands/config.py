"""``papyra config``: what is configured, and where."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import click

from papyra_cli._failure import Failure
from papyra_cli._group import HelpfulGroup
from papyra_cli._options import output_command
from papyra_cli._output import Styled, Table
from papyra_cli._settings import settings_values
from papyra_cli._store import SOURCES

if TYPE_CHECKING:
    from papyra_cli._output import Output

__all__ = ["config"]

_VARIABLES = ("PAPYRA_PERSISTENCE", "PAPYRA_PLUGINS", "PAPYRA_SETTINGS_MODULE", "NO_COLOR", "FORCE_COLOR")

_LINE = ("name", "value", "origin", "used")
_EXAMPLE = ("papyra config view", "which store would be used here, and why?")


class _Value(NamedTuple):
    """One value; field names are the keys of the JSON. ``used`` is False where something else goes before it."""

    name: str
    value: object
    origin: str
    used: bool = True
    error: str = ""


@click.group(cls=HelpfulGroup, examples=[_EXAMPLE])
def config() -> None:
    """Show what is configured, and where it comes from."""


@config.command(
    lines={"value": _LINE, "status": ("whether all of it could be read",)},
    exit_codes={0: "done, also if something can't be read"},
    examples=[
        _EXAMPLE,
        ("PAPYRA_PERSISTENCE=memory: papyra config view -o json", "what wins, for a program"),
    ],
)
@output_command
def view(out: Output) -> None:
    """Show every value and where it came from; what another one hides is marked as unused.

    Passwords in URLs are masked.
    """
    values = [*_stores(), *_settings(), *_environment()]
    table = Table("value", "Configuration", _LINE)
    for item in values:
        shown = Styled(item.error, "red") if item.error else "-" if item.value is None else str(item.value)
        table.rows.append((item.name, shown, item.origin, "yes" if item.used else "no"))
    broken = sum(bool(item.error) for item in values)
    note = Styled(f"{broken} can't be read", "red") if broken else Styled("ok", "green")
    records = [item._asdict() for item in values]
    out.show(records, records, [table], note)


def _stores() -> list[_Value]:
    found: list[_Value] = []
    for origin, look in SOURCES.items():
        try:
            store = look()
        except Failure as error:
            found.append(_Value("persistence", None, origin, not found, str(error)))
            continue
        if store is not None:
            found.append(_Value("persistence", store.shown, store.origin, not found))
    return found or [_Value("persistence", None, "nothing configures a store")]


def _settings() -> list[_Value]:
    try:
        values, origin = settings_values()
    except Failure as error:
        return [_Value("settings", None, "PAPYRA_SETTINGS_MODULE", used=True, error=str(error))]
    return [_Value(name, value, origin) for name, value in values.items() if name != "persistence"]


def _environment() -> list[_Value]:
    shown = (name for name in _VARIABLES if name in os.environ and name != "PAPYRA_PERSISTENCE")
    return [_Value(name, os.environ[name], "environment") for name in shown]
