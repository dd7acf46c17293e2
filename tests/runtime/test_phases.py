"""The phases of a life are data: one table, and one place that assigns a phase."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import papyra
from papyra import Actor, ActorSystem
from papyra._runtime import phases


def test_only_enter_assigns_a_phase():
    assigned = {
        (path.name, line.strip())
        for path in Path(papyra.__file__).parent.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"\.phase\b[^=!<>]*=(?!=)", line)
        and not re.search(r"\b(if|return|elif|while|or|and)\b", line)
    }
    assert assigned == {("phases.py", "cell.phase = phase"), ("cell.py", "self.phase = STARTING")}


def test_every_phase_has_a_name_a_state_and_a_row():
    constants = [name for name in phases.NAMES if getattr(phases, name) == phases.NAMES.index(name)]
    assert len(constants) == len(phases.NAMES) == len(phases.STATES)
    assert list(phases.TRANSITIONS) == list(range(len(constants)))


def test_every_life_can_end_and_none_begins_again():
    assert phases.TRANSITIONS[phases.STOPPED] == ()
    for phase, following in phases.TRANSITIONS.items():
        assert phase not in following
        assert phase == phases.STOPPED or phases.STOPPED in following


@pytest.mark.anyio
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
