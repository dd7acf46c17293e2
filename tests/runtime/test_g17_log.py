"""Guarantee 17: the log."""

from __future__ import annotations

import logging
from functools import partial

import pytest

from papyra import Actor, SupervisorDecision
from papyra import events as ev

from .families import Boss, Plan, read_kid, until
from .support import RESTART, Boom, running


def failures_logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [
        record for record in caplog.records if record.name == "papyra" and record.levelno >= logging.ERROR
    ]


@pytest.mark.parametrize("place", ["tell", "ask", "start", "init", "stop", "escalate", "parent"])
async def test_g17_each_failure_is_logged_once_with_its_traceback(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    def decide(*_: object) -> SupervisorDecision | None:
        if place == "parent":
            raise LookupError("the parent's own")
        return SupervisorDecision.ESCALATE if place == "escalate" else None

    plan = Plan(start=1) if place == "start" else Plan()
    expected: list[type[Exception]] = [Boom]
    async with running() as system:
        boss = system.spawn(partial(Boss, plan, decide, RESTART))
        kid = await boss.ask(read_kid)
        if place == "ask":
            with pytest.raises(Boom):
                await kid.ask("boom")
        elif place == "init":
            await kid.ask("ping")
            plan.failures["init"] = 1
            await kid.tell("boom")
            expected = [Boom, Boom]
        elif place == "stop":
            await kid.ask("ping")
            plan.failures["stop"] = 1
            await system.stop(kid)
        elif place != "start":
            await kid.tell("boom")
        if place == "parent":
            expected = [Boom, LookupError]
        if place in ("escalate", "parent"):
            await until(system, ev.ActorStopped, boss)
        elif place != "stop":
            await kid.ask("ping")
    records = failures_logged(caplog)
    errors = [record.exc_info[1] for record in records if record.exc_info]
    assert [type(error) for error in errors] == expected
    assert all(error is not None and error.__traceback__ is not None for error in errors)
    assert len(records) == len(expected)
    assert str(kid.address) in records[0].getMessage()


async def test_g17_an_error_whose_text_raises_is_a_failure_like_any_other() -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    class Fails(Actor):
        async def receive(self, _message: object) -> None:
            raise Nasty

    async with running() as system:
        ref = system.spawn(Fails)
        await ref.tell(1)
        crash = await until(system, ev.ActorCrashed, ref)
        assert "Nasty" in str(crash.payload["error"])
        await until(system, ev.ActorStopped, ref)
