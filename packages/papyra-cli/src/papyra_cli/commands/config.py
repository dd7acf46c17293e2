"""``papyra config``: the configuration and its places."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple, cast

import click

from papyra.exceptions import BackendURLError
from papyra.persistence.url import BackendURL, masked
from papyra.settings import Settings
from papyra_cli._click.commands import HelpfulGroup
from papyra_cli._click.options import output_command
from papyra_cli._output.output import Styled, Table
from papyra_cli._store.settings import complaint, found_settings

if TYPE_CHECKING:
    from papyra_cli._output.output import Output

__all__ = ["config"]

_FIELDS = [field.name for field in fields(Settings)]
_VARIABLES = ("PAPYRA_PLUGINS", "PAPYRA_SETTINGS_MODULE", "NO_COLOR", "FORCE_COLOR")

_LINE = ("name", "value", "origin", "used")
_EXAMPLE = ("papyra config view", "which store would be used here, and why?")


class _Value(NamedTuple):
    """One value; field names are the keys of the JSON.

    ``used`` is False if another place takes precedence.
    """

    name: str
    value: object
    origin: str
    used: bool = True
    error: str = ""


@click.group(cls=HelpfulGroup, examples=[_EXAMPLE])
def config() -> None:
    """Show what is configured, and where it comes from."""


@config.command(
    lines={"value": _LINE, "status": ("what can't be used, and what is unknown",)},
    exit_codes={0: "done, also if something can't be used"},
    examples=[
        _EXAMPLE,
        ("PAPYRA_PERSISTENCE=memory: papyra config view -o json", "the value in use, as JSON"),
    ],
)
@output_command
def view(out: Output) -> None:
    """Show every value and its origin.

    The first of these places is used: PAPYRA_<FIELD>, [tool.papyra] of the nearest pyproject.toml,
    PAPYRA_SETTINGS_MODULE, the default. A value that another place hides is marked as unused. An application
    reads no pyproject.toml unless it asks for one. Misspelled names are pointed out, and passwords in URLs
    are masked.
    """
    values = [*_settings(), *_environment()]
    table = Table("value", "Configuration", _LINE)
    for item in values:
        shown = Styled(item.error, "red") if item.error else "-" if item.value is None else str(item.value)
        table.rows.append((item.name, shown, item.origin, "yes" if item.used else "no"))
    records = [item._asdict() for item in values]
    out.show(records, records, [table], _note(values))


def _settings() -> list[_Value]:
    """Return the values that were found, field by field, and the defaults that nothing hides."""
    values_of: dict[str, list[_Value]] = {name: [] for name in _FIELDS}
    for setting in found_settings():
        before = values_of.setdefault(setting.name or setting.origin, [])
        if setting.origin != "default" or not before:
            value = masked(setting.value) if isinstance(setting.value, str) else setting.value
            if isinstance(value, tuple):  # names of plugins
                value = ", ".join(cast("tuple[str, ...]", value)) or None
            used = not before and setting.name in ("", *_FIELDS)
            error = complaint(setting) or _url_error(setting.name, setting.value)
            before.append(_Value(setting.name or "settings", value, setting.origin, used, error))
    return [value for values in values_of.values() for value in values]


def _url_error(name: str, value: object) -> str:
    """Return what is wrong with the syntax of a backend URL; no backend is asked."""
    if name == "persistence" and isinstance(value, str):
        try:
            BackendURL.parse(value)
        except BackendURLError as error:
            return masked(str(error))
    return ""


def _environment() -> list[_Value]:
    return [_Value(name, os.environ[name], "environment") for name in _VARIABLES if name in os.environ]


def _note(values: list[_Value]) -> Styled:
    unknown = sum(bool(value.error) and not value.used for value in values)
    broken = sum(bool(value.error) for value in values) - unknown
    parts = [f"{broken} can't be used"] * bool(broken) + [f"{unknown} unknown"] * bool(unknown)
    return Styled(", ".join(parts), "red") if parts else Styled("ok", "green")
