"""The site has every page in its navigation, and leaves out nothing that is public."""

from __future__ import annotations

import importlib
import re
import tomllib

import click
import pytest

from papyra import SupervisorDecision
from papyra_cli._exit_codes import ExitCode
from papyra_cli._main import papyra

DOCUMENTED = [
    "papyra",
    "papyra.persistence",
    "papyra_json",
    "papyra_contrib.cluster",
    "papyra_contrib.cluster.testing",
    "papyra_contrib.receptionist",
    "papyra_contrib.admin",
    "papyra_contrib.eventstream",
    "papyra_contrib.patterns",
    "papyra_contrib.postgres",
    "papyra_contrib.routing",
    "papyra_contrib.running",
    "papyra_contrib.supervisor",
    "papyra_contrib.redis",
    "papyra_contrib.sqlite",
    "papyra_contrib.asgi",
    "papyra_contrib.dashboard",
    "papyra_contrib.otel",
    "papyra_contrib.prometheus",
]


def _targets(nav):
    for entry in nav:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from _targets(target)


def test_every_page_is_in_the_navigation_once_and_exists(root):
    site = tomllib.loads((root / "zensical.toml").read_text("utf-8"))["project"]
    named = sorted(_targets(site["nav"]))
    pages = sorted(path.relative_to(root / "docs").as_posix() for path in (root / "docs").rglob("*.md"))
    assert named == pages


@pytest.mark.parametrize("module", DOCUMENTED)
def test_every_public_name_has_a_place_in_the_reference(root, module):
    text = "".join(path.read_text("utf-8") for path in (root / "docs" / "reference").glob("*.md"))
    documented = set(re.findall(r"^::: ([\w.]+)", text, re.MULTILINE))
    names = set(importlib.import_module(module).__all__)
    if module == "papyra":
        names -= {"__version__", "settings", "ReceivesAny"}  # values, and a short form of Receives
    for name in names:
        home = getattr(importlib.import_module(module), name).__module__
        assert {f"{module}.{name}", f"{home}.{name}", home} & documented, name


def _commands(group, path=()):
    for name, command in (
        (name, group.get_command(click.Context(group), name)) for name in sorted(group.commands)
    ):
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def test_the_reference_of_the_command_names_every_command_and_option(root):
    text = (root / "docs" / "reference" / "cli.md").read_text("utf-8")
    context = click.Context(papyra)
    for name in papyra.list_commands(context):
        command = papyra.get_command(context, name)
        assert f"## papyra {name}" in text, name
        found = list(_commands(command, (name,))) if isinstance(command, click.Group) else [(name, command)]
        for path, each in found:
            assert re.search(rf"\b{path.rpartition(' ')[2]}\b", text), path
            for parameter in each.params:
                for option in parameter.opts:
                    assert f"`{option}" in text, f"{path} {option}"


def test_the_exit_codes_are_documented(root):
    text = (root / "docs" / "reference" / "exit-codes.md").read_text("utf-8")
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)] == [
        int(code) for code in ExitCode
    ]


def test_the_tutorial_names_every_decision(root):
    page = (root / "docs" / "tutorial" / "supervision.md").read_text("utf-8")
    assert [each.name for each in SupervisorDecision if f"| `{each.name}` |" not in page] == []
