"""What every test of the runtime has: a hard limit, and phases that are checked."""

from __future__ import annotations

import pytest

from papyra._runtime import phases
from papyra._runtime.facts.run_facts import RunFacts


@pytest.fixture(autouse=True)
def _checked_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test also checks that actors go through their phases as the table of transitions says."""
    monkeypatch.setattr(phases, "enter", phases.enter_checked)


@pytest.fixture
def actors_facts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out SystemStarted and SystemStopped, for tests that count the facts of actors."""
    monkeypatch.setattr(RunFacts, "_note", lambda *_: None)


@pytest.fixture(autouse=True)
def _limited(hard_limit: None) -> None:
    """Every test has a hard limit."""
