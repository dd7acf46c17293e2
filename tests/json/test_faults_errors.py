"""Any call fails at any step: who heard of success finds the record, who heard of failure does not, and later
calls succeed.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count

import pytest

from papyra.exceptions import PersistenceError

from ._scenarios import DONE, FAILED, SCENARIOS, UNKNOWN
from ._steps import CHANGING, OPENING, READING, Steps, fail, find_no_descriptor, find_no_room


def _outcomes(name, path, happen, step, *, on, calls=CHANGING + READING):
    """Prepare a scenario and do its work while calls fail; return what its calls said, and whether one
    failed.
    """
    scenario = SCENARIOS[name]
    scenario.prepare(path)
    outcomes = bytearray(len(scenario.records))
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch.setattr, calls, step, happen, on=on)
        with suppress(OSError, PersistenceError):
            scenario.work(path, outcomes)
    return outcomes, steps.reached


@pytest.mark.parametrize("name", SCENARIOS)
def test_faults_one_call_fails(quick_disk, name):
    for step in count():
        path = quick_disk / str(step) / "facts"
        outcomes, reached = _outcomes(name, path, fail, step, on=False)
        assert outcomes.count(FAILED) <= 1
        SCENARIOS[name].check(path, outcomes)
        if not reached:
            assert outcomes.count(DONE) == len(outcomes)
            assert step > 10
            return


EVERY_THIRD = pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.sweep)])
"""Of the steps at which something begins, every third one; the sweep has them all."""


@EVERY_THIRD
@pytest.mark.parametrize(("happen", "calls"), [(find_no_room, CHANGING), (find_no_descriptor, OPENING)])
@pytest.mark.parametrize("name", SCENARIOS)
def test_faults_something_runs_out(quick_disk, name, happen, calls, every):
    """From some step on there is no room, or no file descriptor.

    Once there is some again, all is in order.
    """
    for step in count(0, every):
        path = quick_disk / str(step) / "facts"
        outcomes, reached = _outcomes(name, path, happen, step, on=True, calls=calls)
        SCENARIOS[name].check(path, outcomes)
        if not reached:
            return


@EVERY_THIRD
@pytest.mark.parametrize("name", SCENARIOS)
def test_faults_the_disk_fails_for_good(quick_disk, name, every):
    for step in count(0, every):
        path = quick_disk / str(step) / "facts"
        outcomes, reached = _outcomes(name, path, fail, step, on=True)
        if SCENARIOS[name].durability == "always" and FAILED in outcomes:
            # What was written and not synced can't be cut off any more; its caller heard the worse of two
            # truths.
            outcomes[outcomes.index(FAILED)] = UNKNOWN
        SCENARIOS[name].check(path, outcomes)
        if not reached:
            return
