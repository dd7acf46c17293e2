"""What the tests of H1 use: values and errors whose special methods misbehave."""

from __future__ import annotations

import weakref
from typing import Any


class Gone:
    """Its weak proxy raises `ReferenceError` for every question."""


class Raises:
    """Every question about it raises an error that is not an `Exception`."""

    def _fail(self, *_: object) -> Any:
        raise SystemExit("from a user's value")

    __class__ = property(_fail)  # type: ignore[assignment]  # it lies on purpose
    __eq__ = __bool__ = __len__ = __repr__ = __str__ = __hash__ = _fail  # type: ignore[assignment]  # as above


class Lies:
    """It says that it is a coroutine, has a negative length, equals everything, and is named by a number."""

    __class__ = property(lambda _: type((lambda: (yield))()))  # type: ignore[assignment]  # it lies on purpose
    __len__ = __hash__ = __bool__ = __repr__ = __str__ = lambda _: -1  # type: ignore[assignment]  # as above
    __eq__ = lambda *_: True  # type: ignore[assignment]  # noqa: E731 - as above


class OddMeta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]  # as above
        raise SystemExit("from a metaclass")

    def __eq__(cls, other: object) -> bool:
        raise SystemExit("from a metaclass")

    __hash__ = None  # type: ignore[assignment]  # as above


class OfOddClass(metaclass=OddMeta):
    pass


def values() -> list[Any]:
    return [weakref.proxy(Gone()), Raises(), OfOddClass(), Lies()]


class OddError(Exception):
    def __str__(self) -> str:
        raise SystemExit("from the text of an error")

    __repr__ = __str__


class LyingError(Exception):
    __class__ = property(Raises._fail)  # type: ignore[assignment]  # it lies on purpose


class UnequalError(Exception):
    __eq__ = __hash__ = __bool__ = Raises._fail  # type: ignore[assignment]  # as above


class HidingError(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit("from an attribute of an error")


class OddGroup(ExceptionGroup[Exception]):
    def derive(self, _excs: object) -> Any:
        raise SystemExit("from a group")


def errors() -> list[Exception]:
    return [
        OddError(),
        LyingError(),
        UnequalError(),
        ValueError(Raises()),
        HidingError(),
        OddGroup("odd", [OddError()]),
    ]
