"""Proxies: an actor seen as an object, whose methods become messages."""

from __future__ import annotations

import inspect
from types import MethodType
from typing import TYPE_CHECKING, Any

from papyra._runtime.asks import ask
from papyra._runtime.containment.thread_guard import check_thread
from papyra._runtime.containment.user_values import is_a, is_awaitable, type_name
from papyra._runtime.delivery.sending import deliver, halt_send, yield_to_loop
from papyra._runtime.envelope import Envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import NoReturn

    from papyra._runtime.cell import Cell
    from papyra.actor import Actor

__all__ = ["ActorProxy"]


class ActorProxy:
    """Use an actor's methods and attributes inside the actor, one message at a time.

    ``await proxy.method(1)`` calls and returns; ``await proxy.method.defer(1)`` sends the call and does not
    wait for it; ``await proxy.attr`` reads; ``await proxy.attr.set(2)`` writes; paths may be nested
    (``await proxy.stats.total``). A name with a leading underscore is an `AttributeError`. An error of the
    actor's code is raised here and counts as the actor's failure, as with an ask.

    At the end of a path, a call of ``defer`` or ``set`` always has the meaning above.
    """

    __slots__ = ("_cell",)
    _cell: Cell

    def __init__(self, cell: Cell) -> None:
        object.__setattr__(self, "_cell", cell)

    def __getattr__(self, name: str) -> _Path:
        return _Path(self._cell, (_checked(name),))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a message sets an actor's attribute: await proxy.{name}.set(value)")

    def __repr__(self) -> str:
        return f"<ActorProxy {self._cell}>"


class _Path:
    """Names to follow from the actor."""

    __slots__ = ("_cell", "_names")
    _cell: Cell
    _names: tuple[str, ...]

    def __init__(self, cell: Cell, names: tuple[str, ...]) -> None:
        object.__setattr__(self, "_cell", cell)
        object.__setattr__(self, "_names", names)

    def __getattr__(self, name: str) -> _Path:
        return _Path(self._cell, (*self._names, _checked(name)))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(
            f"a message sets an actor's attribute: await proxy.{'.'.join(self._names)}.{name}.set(value)"
        )

    def __await__(self) -> Generator[Any, None, Any]:
        return self._send(lambda actor: _read(actor, self._names), "read").__await__()

    def __call__(self, *args: object, **kwargs: object) -> _Call:
        *path, last = self._names
        if path and last == "set":
            return _Call(self._set(path, args, kwargs))
        if path and last == "defer":
            return _Call(self._defer(path, args, kwargs))
        return _Call(
            self._send(lambda actor: _invoke(actor, self._names, args, kwargs), "call", args, kwargs)
        )

    def __repr__(self) -> str:
        return f"<ActorProxy {self._cell} .{'.'.join(self._names)}>"

    async def _send(
        self,
        act: Callable[[Actor], Any],
        verb: str,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Any:
        return await ask(self._cell, _envelope(act, verb, self._names, args, kwargs or {}), None)

    async def _set(self, path: list[str], args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        if len(args) != 1 or kwargs:
            raise TypeError(f"write proxy.{'.'.join(path)}.set(value), with exactly one value")
        envelope = _envelope(lambda actor: _assign(actor, path, args[0]), "set", tuple(path), args, {})
        await ask(self._cell, envelope, None)

    async def _defer(self, path: list[str], args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        names = tuple(path)
        envelope = _envelope(lambda actor: _invoke(actor, names, args, kwargs), "call", names, args, kwargs)
        envelope.expects_reply = False
        check_thread(self._cell.rt, "call an actor")
        for _ in self._cell.rt.sends:  # as in `ActorRef.tell`
            break
        else:
            halt_send(self._cell, envelope)
            if self._cell.rt.must_yield:
                await yield_to_loop(self._cell.rt)
        await deliver(self._cell, envelope)


class CallerError(Exception):
    """Carries a mistake of the caller out of the actor, which does not fail because of it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class _Call:
    """A call that is sent when awaited."""

    __slots__ = ("_coroutine",)

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, None, Any]:
        return self._coroutine.__await__()  # type: ignore[no-any-return]  # see above


def _checked(name: str) -> str:
    if name.startswith("_"):
        raise AttributeError(
            f"{name!r}: a proxy reaches public names only, not names with a leading underscore"
        )
    return name


def _envelope(
    act: Callable[[Actor], Any],
    verb: str,
    names: tuple[str, ...],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> Envelope:
    # The message of a dead letter: the call as plain data.
    described = {"proxy": verb, "name": ".".join(names), "args": list(args), "kwargs": dict(kwargs)}
    envelope = Envelope(described)

    async def run(actor: Actor) -> Any:
        result = act(actor)
        return await result if verb == "call" and is_awaitable(result) else result

    envelope.call = run
    return envelope


def _follow(actor: Actor, names: tuple[str, ...] | list[str]) -> Any:
    value: Any = actor
    for name in names:
        try:
            value = getattr(value, name)
        except AttributeError as error:
            raise CallerError(error) from error
    return value


def _read(actor: Actor, names: tuple[str, ...]) -> Any:
    value = _follow(actor, names)
    if is_a(value, MethodType):
        # A bound method would run outside of the actor.
        name = ".".join(names)
        raise CallerError(
            TypeError(f"{name} is a method of {type_name(type(actor))}: await proxy.{name}(...)")
        )
    return value


def _invoke(actor: Actor, names: tuple[str, ...], args: tuple[object, ...], kwargs: dict[str, object]) -> Any:
    method = _follow(actor, names)
    try:
        inspect.signature(method).bind(*args, **kwargs)
    except TypeError as error:  # also if it can't be called at all
        raise CallerError(TypeError(f"proxy.{'.'.join(names)}: {error}")) from error
    except ValueError:
        pass  # a builtin without a signature: the call itself checks its arguments
    return method(*args, **kwargs)


def _assign(actor: Actor, path: list[str], value: object) -> None:
    setattr(_follow(actor, path[:-1]), path[-1], value)
