"""What the runtime may find out about a user's value without running its code.

``isinstance(value, ...)``, ``repr(value)`` and ``type(value).__name__`` may all call methods of the value or
of its metaclass, which may raise, lie or take long. These functions call none.
"""

from __future__ import annotations

import inspect
import reprlib
import types
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_T = TypeVar("_T")

__all__ = ["bounded_text", "close_coroutine", "describe", "is_a", "is_awaitable", "leaves", "type_name"]

_NAME_OF_TYPE: Callable[[Any], str] = type.__dict__["__name__"].__get__

_NAMESPACE_OF: Callable[[Any], dict[str, object]] = type.__dict__["__dict__"].__get__
_MRO_OF: Callable[[Any], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_MEMBERS: Callable[[Any], tuple[BaseException, ...]] = BaseExceptionGroup.__dict__["exceptions"].__get__


def type_name(kind: type) -> str:
    """Return the name of a class."""
    return _NAME_OF_TYPE(kind)


def is_a(value: object, kind: type[_T]) -> TypeGuard[_T]:
    """Return whether the class of ``value`` is ``kind`` or derives from it."""
    return issubclass(type(value), kind)  # unlike isinstance, which asks the value for its ``__class__``


def is_awaitable(value: object) -> TypeGuard[Awaitable[Any]]:
    """Return whether a value can be awaited, as `inspect.isawaitable` does, but run no code of its class."""
    kind = type(value)
    if kind is types.CoroutineType:
        return True
    if is_a(value, types.GeneratorType):
        return bool(value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return any("__await__" in _NAMESPACE_OF(base) for base in _MRO_OF(kind))


def leaves(error: BaseException) -> list[BaseException]:
    """Return the exceptions that a group holds, at any depth; of any other exception, a list of itself.

    One that is there several times is returned once: groups of groups may hold it a million times.
    """
    errors: list[BaseException] = []
    left = [error]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if is_a(each, BaseExceptionGroup):
            left.extend(reversed(_MEMBERS(each)))
        else:
            errors.append(each)
    return errors


def describe(value: Any) -> str:
    """Name a value for an error text: a class or function by its name, any other value by its type."""
    if type(value) is partial:
        return f"{describe(value.func)} with arguments"
    if type(value) is types.FunctionType or type(value) is types.BuiltinFunctionType:
        return f"the function {value.__qualname__}"
    if type(value) is types.MethodType:
        return f"the method {describe(value.__func__).removeprefix('the function ')}"
    if is_a(value, type):
        return f"the class {type_name(value)}"
    return f"an object of type {_NAME_OF_TYPE(type(value))}"


def bounded_text(error: BaseException, limit: int) -> str:
    """Return the text of an exception, with about ``limit`` characters at most. Never raises an `Exception`.

    The standard text contains the ``repr`` of each argument. Long containers are shown by their first items,
    and a long string is cut: a payload of 100 MB in an exception costs no more than a short one.
    """
    try:
        text, args = type(error).__str__, cast("tuple[object, ...]", error.args)
        if text in (BaseException.__str__, KeyError.__str__) and args:
            first, *others = args
            if others:
                return _Short(limit).repr(args)
            if text is KeyError.__str__ or type(first) is not str:
                return _Short(limit).repr(first)
        return "".join([str(error)])[: limit + 1]  # of a subclass of str, join makes a plain one
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # noqa: BLE001 - the text of an exception is user code, which may raise anything
        return f"<text raised {type_name(type(broken))}>"


class _Short(reprlib.Repr):
    def __init__(self, limit: int) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = limit
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = self.maxdeque = 100

    def repr_str(self, x: str, level: int) -> str:
        return repr(x[: self.maxstring])

    def repr_bytes(self, x: bytes, level: int) -> str:
        return repr(x[: self.maxstring])

    repr_bytearray = repr_bytes


def close_coroutine(value: object) -> None:
    """Close a coroutine that will not be awaited; do nothing with any other value."""
    if type(value) is types.CoroutineType:
        value.close()
