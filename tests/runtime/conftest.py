"""A hard limit for each test: a hang that no cancel scope can end must not stop the run."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import NoReturn

import pytest

from papyra._runtime import phases
from papyra._runtime.run_facts import RunFacts

HARD_LIMIT = 120.0  # seconds; a busy machine may need many for what takes six


@pytest.fixture(autouse=True)
def _checked_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test also checks that actors go through their phases as the table of transitions says."""
    monkeypatch.setattr(phases, "enter", phases.enter_checked)


@pytest.fixture
def actors_facts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out SystemStarted and SystemStopped, for tests that count the facts of actors."""
    monkeypatch.setattr(RunFacts, "_note", lambda *_: None)


@pytest.fixture(autouse=True)
def _hard_limit() -> Iterator[None]:
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(_number: int, _frame: object) -> NoReturn:
        pytest.fail(f"the test hangs: it took more than {HARD_LIMIT} s", pytrace=True)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, HARD_LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
