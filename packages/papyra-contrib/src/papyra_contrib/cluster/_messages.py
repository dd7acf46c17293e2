"""Names on the wire: which types may travel, and under which names. Nothing is imported by name."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from papyra_contrib.cluster._errors import ActorStopped, MessageRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "FIXED_ERRORS",
    "JSON_TYPE",
    "REF_TYPE",
    "Registered",
    "check_json",
    "message",
    "registered",
    "registered_as",
]

_T = TypeVar("_T")

JSON_TYPE: Final = "-"
REF_TYPE: Final = "!ref"

FIXED_ERRORS: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (
        ValueError,
        KeyError,
        TypeError,
        LookupError,
        RuntimeError,
        PermissionError,
        TimeoutError,
        NotImplementedError,
        ArithmeticError,
        ActorStopped,
    )
}
"""The exceptions that come as themselves without a registration, by their names."""

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,127}")
_PLAIN = frozenset({type(None), bool, str})
_MAX_INT = 1 << 63


@dataclass(frozen=True, slots=True)
class Registered:
    """A type under its wire name; ``encode`` and ``decode`` replace the codec's."""

    name: str
    type: type[Any]
    encode: Callable[[Any], bytes] | None
    decode: Callable[[bytes], Any] | None


_by_type: dict[type[Any], Registered] = {}
_by_name: dict[str, Registered] = {}


def message(
    name: str,
    *,
    encode: Callable[[Any], bytes] | None = None,
    decode: Callable[[bytes], Any] | None = None,
) -> Callable[[type[_T]], type[_T]]:
    """Register a class under the name that it has on the wire, which is the contract between nodes.

    Dataclasses, msgspec structs, attrs classes and enums need no more; others bring ``encode`` and ``decode``
    as well. An exception class travels as its text and is made again from it. A second class under one name
    is a `ValueError`, and so is an exception class under the name of one that travels without a registration,
    as `KeyError` does. New fields need defaults; any other change needs a new name.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            "a wire name must have 1 to 128 letters, digits, '_', '.' or '-', and not begin with '-', as in "
            f"'shop.Increment'; not {name!r}"
        )
    if (encode is None) is not (decode is None):
        raise ValueError(f"message({name!r}) needs both encode= and decode=, or neither")

    def register(kind: type[_T]) -> type[_T]:
        other = _by_name.get(name)
        taken = other.type if other is not None else kind
        if issubclass(kind, BaseException):
            taken = FIXED_ERRORS.get(name, taken)
        if taken is not kind:
            raise ValueError(f"the wire name {name!r} is taken by {taken!r}; give {kind!r} a name of its own")
        entry = Registered(name, kind, encode, decode)
        _by_name[name] = entry
        _by_type.setdefault(kind, entry)
        return kind

    return register


def registered(kind: type[Any]) -> Registered | None:
    """Return the registration of exactly this class."""
    return _by_type.get(kind)


def registered_as(name: str) -> Registered | None:
    """Return the registration under a wire name."""
    return _by_name.get(name)


def all_registered() -> Iterator[Registered]:
    """Yield every registration."""
    yield from list(_by_name.values())


def check_json(value: object) -> None:
    """Raise `MessageRejected` unless ``value`` is JSON of exact types."""
    kind = type(value)
    if kind in _PLAIN:
        return
    if isinstance(value, int) and kind is int:
        if not -_MAX_INT <= value < _MAX_INT:
            raise MessageRejected("invalid", f"an int on the wire has 64 bits, and {value} needs more")
    elif isinstance(value, float) and kind is float:
        if not math.isfinite(value):
            raise MessageRejected("invalid", f"a float on the wire must be finite, not {value}")
    elif isinstance(value, list) and kind is list:
        for item in value:  # pyright: ignore[reportUnknownVariableType]  # anything, each is checked
            check_json(item)  # pyright: ignore[reportUnknownArgumentType]  # as above
    elif isinstance(value, dict) and kind is dict:
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]  # as above
            if type(key) is not str:  # pyright: ignore[reportUnknownArgumentType]  # as above
                raise MessageRejected(
                    "invalid", f"the keys of a dict on the wire must be of type str, not {key!r}"
                )
            check_json(item)  # pyright: ignore[reportUnknownArgumentType]  # as above
    else:
        raise MessageRejected(
            "unregistered",
            f"{kind.__qualname__} has no wire name; put @message('a.name') above the class, or send plain JSON values",
        )
