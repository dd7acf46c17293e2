"""H1: a filter or handler of the logger ``papyra`` that raises harms nobody."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

import papyra
from papyra import ActorStopped
from papyra._runtime.containment import log
from papyra.exceptions import Reject

from .places import overriding
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


# -- large errors


def of_bytes() -> Exception:
    return ValueError(b"x" * 10_000_000)


def of_a_buffer() -> Exception:
    return ValueError(bytearray(10_000_000))


def of_text_and_more() -> Exception:
    return ValueError("x" * 10_000_000, 1)


def of_a_key() -> Exception:
    return KeyError("x" * 10_000_000)


def of_items() -> Exception:
    return ValueError({"items": [list(range(1_000)) for _ in range(1_000)]})


def of_causes() -> Exception:
    error = ValueError("first")
    for _ in range(10_000):
        error, cause = ValueError("next"), error
        error.__cause__ = cause
    return error


def of_members() -> Exception:
    return ExceptionGroup("many", [ValueError(n) for n in range(10_000)])


def of_groups() -> Exception:
    """Hold one exception a million million times."""
    error: Exception = ValueError("one")
    for _ in range(40):
        error = ExceptionGroup("both", [error, error])
    return error


@pytest.mark.parametrize(
    "make", [of_bytes, of_a_buffer, of_text_and_more, of_a_key, of_items, of_causes, of_members, of_groups]
)
async def test_h01_a_large_error_is_shown_in_part(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    error = make()

    def fail(_: object) -> NoReturn:
        raise error

    async with running() as system:
        with pytest.raises(type(error)):
            await system.spawn(Runs).ask(fail)
        with pytest.raises(ActorStopped):
            await system.spawn(overriding("on_start", fail)).ask(1)
        events = system.events()
    lines = [record for record in caplog.records if record.exc_info]
    assert [record.module for record in lines] == ["failure_log"] * 2
    for record in lines:
        assert record.exc_info is not None
        assert record.exc_info[1] is error, "an error tracker sees all of it"
        shown = logging.Formatter().format(record)
        assert len(shown) < 50_000
        assert "in fail" in shown
        assert type(error).__name__ in shown
    assert all(len(str(event)) < 10_000 for event in events)


async def test_h01_an_error_of_usual_size_is_shown_whole(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object) -> NoReturn:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("x" * 5_000) from error

    async with running() as system:
        with pytest.raises(ValueError, match="xx"):
            await system.spawn(Runs).ask(fail)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert not record.exc_text or "KeyError: 'first'" in record.exc_text
    shown = logging.Formatter().format(record)
    assert "x" * 5_000 in shown
    assert "KeyError: 'first'" in shown
