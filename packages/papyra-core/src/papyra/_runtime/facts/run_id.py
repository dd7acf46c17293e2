"""The id of a run: one life of one system, from `ActorSystem.start` to the end of ``aclose``.

An id is 12 characters: 7 digits of base 62 for the start in steps of 10 ms since 1970, then 5 random ones.
The digits are in the order of ASCII, so ids sort by start. Two runs that start within the same 10 ms have the
same id with a probability of 1 in 900 million.
"""

from __future__ import annotations

import secrets
import time

__all__ = ["new_run_id"]

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_STEPS_PER_SECOND = 100
_TIME_DIGITS, _RANDOM_DIGITS = 7, 5  # 7 digits last until the year 3085


def new_run_id() -> str:
    """Return a new id, from the clock of the host and its source of random numbers.

    A system's ``time_fn`` is not used: with a clock that begins at 0 in every test, only 5 digits would
    differ between runs.
    """
    steps = int(time.time() * _STEPS_PER_SECOND)
    return _base_62(steps, _TIME_DIGITS) + _base_62(
        secrets.randbelow(len(_DIGITS) ** _RANDOM_DIGITS), _RANDOM_DIGITS
    )


def _base_62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
