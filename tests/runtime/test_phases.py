"""The phases of a life are data: one table, and one place that assigns a phase."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import papyra
from papyra import Actor, ActorSystem
from papyra._runtime import phases

PACKAGE = Path(papyra.__file__).parent


def test_only_enter_assigns_a_phase():
    assigned = {
        (path.name, ast.unparse(node))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "phase" and isinstance(node.ctx, ast.Store)
    }
    assert assigned == {("phases.py", "cell.phase"), ("cell.py", "self.phase")}


def test_every_phase_has_a_name_a_state_and_a_row():
    constants = [name for name in phases.NAMES if getattr(phases, name) == phases.NAMES.index(name)]
    assert len(constants) == len(phases.NAMES) == len(phases.STATES)
    assert list(phases.TRANSITIONS) == list(range(len(constants)))


def test_every_life_can_end_and_none_begins_again():
    assert phases.TRANSITIONS[phases.STOPPED] == ()
    for phase, following in phases.TRANSITIONS.items():
        assert phase not in following
        assert phase == phases.STOPPED or phases.STOPPED in following


async def test_a_transition_outside_of_the_table_is_found():
    async with ActorSystem() as system:
        cell = system.spawn(Actor)._cell
        with pytest.raises(AssertionError, match="can't go from STARTING to BACKING_OFF"):
            phases.enter(cell, phases.BACKING_OFF)


def test_the_design_page_shows_the_table():
    page = (Path(__file__).parents[2] / "docs/design/runtime.md").read_text("utf-8")
    for phase, following in phases.TRANSITIONS.items():
        row = ", ".join(f"`{phases.NAMES[one]}`" for one in following) or "none"
        assert re.search(rf"\| `{phases.NAMES[phase]}` \|[^|]+\| {re.escape(row)} \|", page), phases.NAMES[
            phase
        ]


@pytest.mark.sweep
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_new_decision_must_be_handled(checker, tmp_path):
    """Add a member to `SupervisorDecision` in a copy.

    Both checkers name the two `match` statements that do not handle it, and no other file.
    """
    binary = shutil.which(checker, path=sysconfig.get_path("scripts"))
    if binary is None:
        pytest.skip(f"{checker} is not installed")
    copy = tmp_path / "papyra"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    # Only the runtime and the enum are read: both reports have what is wrong in them without the rest.
    options = (
        ["--follow-imports=skip", "--no-incremental"]
        if checker == "mypy"
        else ["--pythonpath", sys.executable]
    )
    names = ["papyra/supervision.py", "papyra/_runtime"]

    def complaints():
        ran = subprocess.run(
            [binary, *options, *names], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
        )
        return [line for line in ran.stdout.splitlines() if ".py:" in line and "Never" in line]

    assert complaints() == []
    enum = copy / "supervision.py"
    enum.write_text(
        enum.read_text("utf-8").replace(
            '    RESUME = "resume"\n', '    RESUME = "resume"\n    PAUSE = "pause"\n'
        )
    )
    found = complaints()
    assert len(found) == 2
    assert all("_runtime/decisions.py" in line and "PAUSE" in line for line in found)
