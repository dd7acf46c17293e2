"""H1: a filter or handler of the logger ``papyra`` that raises harms nobody."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

import papyra
from papyra import ActorStopped
from papyra._runtime.containment import log
from papyra.exceptions import Reject

from .support import Echo, Runs, boom, running

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(papyra.__file__).parent


@pytest.fixture(params=[ValueError, SystemExit, asyncio.CancelledError, GeneratorExit])
def raised(request: pytest.FixtureRequest) -> Iterator[type[BaseException]]:
    """Have a filter raise this for each line."""

    def refuse(record: logging.LogRecord) -> NoReturn:
        raise request.param("filter")

    logger = logging.getLogger("papyra")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addFilter(refuse)
    yield request.param
    logger.removeFilter(refuse)
    logger.setLevel(level)


async def rejects(_actor: object) -> NoReturn:
    raise Reject(ValueError("no"))


async def test_h01_senders_and_actors_do_not_see_what_a_filter_raises(
    raised: type[BaseException], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log.LOG, "_is_reported", False)
    async with running() as system:
        ref = system.spawn(Runs)
        await ref.tell(rejects)
        with pytest.raises(ValueError, match="boom"):
            await ref.ask(boom)
        for _ in range(2):
            with pytest.raises(ActorStopped):
                await ref.tell("late")
        assert system.dead_letters.count == 2
        assert await system.spawn(Echo).ask(1) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"a filter or handler of the logger 'papyra' raised {raised.__name__}: lines are lost"
    ]


async def test_h01_a_line_names_the_place_that_logs(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as system:
        ref = system.spawn(Echo)
        await ref.stop()
        with pytest.raises(ActorStopped):
            await ref.tell("late")
    assert [record.module for record in caplog.records] == ["dead_letters"]


def test_h01_the_runtime_has_one_logger() -> None:
    modules = [*(SOURCE / "_runtime").rglob("*.py"), SOURCE / "system.py", SOURCE / "context.py"]
    users = [
        path.name
        for path in modules
        if re.search(r"getLogger|^import warnings", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert users == ["log.py"]
