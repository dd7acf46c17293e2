"""What the runtime may find out about a user's value without running its code.

``isinstance(value, ...)``, ``repr(value)`` and ``type(value).__name__`` may all call methods of the value or of its
metaclass, which may raise, lie or take long. These functions call none.
"""

from __future__ import annotations

import types
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["close_coroutine", "describe", "is_a", "type_name"]

_NAME_OF_TYPE: Callable[[type], str] = type.__dict__["__name__"].__get__


def type_name(kind: type) -> str:
    """Return the name of a class."""
    return _NAME_OF_TYPE(kind)


def is_a(value: object, kind: type) -> bool:
    """Return whether the class of ``value`` is ``kind`` or derives from it."""
    return issubclass(type(value), kind)  # unlike isinstance, which asks the value for its ``__class__``


def describe(value: Any) -> str:
    """Name a value for an error text: a class or function by its name, any other value by its type."""
    if type(value) is partial:
        return f"{describe(value.func)} with arguments"
    if type(value) in (types.FunctionType, types.BuiltinFunctionType):
        return f"the function {value.__qualname__}"
    if type(value) is types.MethodType:
        return f"the method {describe(value.__func__).removeprefix('the function ')}"
    if is_a(value, type):
        return f"the class {type_name(value)}"
    return f"an object of type {_NAME_OF_TYPE(type(value))}"


def close_coroutine(value: object) -> None:
    """Close a coroutine that will not be awaited; do nothing with any other value."""
    if type(value) is types.CoroutineType:
        value.close()
