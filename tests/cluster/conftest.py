"""A hard limit for each test, as for the runtime's."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HARD_LIMIT_SECONDS = 180.0


@pytest.fixture(autouse=True)
def _hard_limit() -> Iterator[None]:
    def stop(_number: int, _frame: object) -> NoReturn:
        pytest.fail(f"the test hangs: it took more than {HARD_LIMIT_SECONDS} s", pytrace=True)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, HARD_LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
