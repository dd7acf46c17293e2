"""The log's text of exceptions that are too large to show whole.

An exception may hold a message of 100 MB, a chain of 100,000 causes, or a group of groups with the same
exception a million times. `logging` would show all of it, and hold the event loop for seconds.
"""

from __future__ import annotations

import traceback
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from papyra._runtime.containment.tracebacks import traceback_of
from papyra._runtime.containment.user_values import bounded_text, is_a, type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["text_of_large"]

MAX_CHARACTERS = 100_000
"""Characters of values, up to which an exception is shown whole."""

MAX_EXCEPTIONS = 200
"""Exceptions in a chain or a group, up to which it is shown whole."""

SHOWN_EXCEPTIONS = 5
SHOWN_CHARACTERS = 4_096  # of the text of each

# The attributes of `BaseException` itself: a class of the user may define others.
_ATTRIBUTES: Any = vars(BaseException)
_ARGS: Callable[[BaseException], object] = _ATTRIBUTES["args"].__get__
_CAUSE: Callable[[BaseException], BaseException | None] = _ATTRIBUTES["__cause__"].__get__
_CONTEXT: Callable[[BaseException], BaseException | None] = _ATTRIBUTES["__context__"].__get__
_MEMBERS: Callable[[BaseException], tuple[BaseException, ...]] = vars(BaseExceptionGroup)[
    "exceptions"
].__get__


def text_of_large(error: BaseException) -> str | None:
    """Return a short text of an exception that is too large to show whole; None for any other."""
    found = list(islice(_related(error), MAX_EXCEPTIONS + 1))
    left = MAX_CHARACTERS
    for each in found:
        left = _take(_ARGS(each), left)
    if len(found) <= MAX_EXCEPTIONS and left > 0:
        return None
    shown = [_described(each) for each in found[:SHOWN_EXCEPTIONS]]
    more = "" if len(found) <= SHOWN_EXCEPTIONS else "\n\n... and more exceptions in its chain or group"
    return "\n\nRelated to it:\n\n".join(shown) + more


def _described(error: BaseException) -> str:
    frames = traceback.format_tb(traceback_of(error))
    head = ["Traceback (most recent call last):\n"] if frames else []
    text = bounded_text(error, SHOWN_CHARACTERS)[:SHOWN_CHARACTERS]
    return "".join([*head, *frames, f"{type_name(type(error))}: {text} (cut: all of it is too large)"])


def _related(error: BaseException) -> Iterator[BaseException]:
    """Go through what a traceback shows: causes and contexts once, members of groups each time."""
    left = deque([error])
    chained: set[int] = {id(error)}
    while left:
        each = left.popleft()
        yield each
        for other in (_CAUSE(each), _CONTEXT(each)):
            if other is not None and id(other) not in chained:
                chained.add(id(other))
                left.append(other)
        if is_a(each, BaseExceptionGroup):
            left.extend(_MEMBERS(each)[:MAX_EXCEPTIONS])


def _take(value: object, left: int) -> int:
    """Take the rough length of a value's ``repr`` from ``left``, and stop below 0; no code of it runs."""
    values: list[object] = [value]
    while values and left > 0:
        each = values.pop()
        left -= 10
        if is_a(each, str):
            left -= str.__len__(each)
        elif is_a(each, bytes):
            left -= bytes.__len__(each)
        elif type(each) is bytearray:
            left -= len(each)
        elif type(each) is int:
            left -= each.bit_length() // 3
        elif type(each) is dict:
            pairs = cast("dict[object, object]", each)
            values.extend(islice(pairs, left))
            values.extend(islice(pairs.values(), left))
        elif type(each) in (list, tuple, set, frozenset, deque):
            values.extend(islice(cast("Iterable[object]", each), left))
    return left
