"""What every test of the runtime has: a hard limit, and phases that are checked."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from papyra._runtime import phases
from papyra._runtime.facts.run_facts import RunFacts

from .signalled import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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


@pytest.fixture
def _collects_its_loop() -> Iterator[None]:
    """Collect the tasks of a loop that ended before its system. asyncio logs them: here, in no later test."""
    yield
    gc.collect()


@pytest.fixture(params=["asyncio", "trio"])
def start_program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str, str], Program]]:
    """Start the text of a program on a loop, with what it is to do."""
    started: list[Program] = []

    def launch(text: str, what: str) -> Program:
        started.append(Program(tmp_path, text, request.param, what))
        return started[-1]

    yield launch
    for each in started:
        each.process.kill()
        each.process.communicate()  # closes the pipe
