"""Send every message of one system through the codec and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from papyra import ActorRef
from papyra.typing import M, R
from papyra_contrib.cluster._discovery import open_codec
from papyra_contrib.cluster._errors import RemoteFailure
from papyra_contrib.cluster._wire.values import WireValues

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from papyra import ActorSystem
    from papyra._runtime.cell import Cell
    from papyra.typing import AskableBy

__all__ = ["through_codec"]

_T = TypeVar("_T")

MAX_MESSAGE_BYTES = 1_000_000


class through_codec:  # noqa: N801 - called like a function, and may be used in a `with` block
    """Have each message, reply and exception of ``system`` encoded and decoded, as between nodes.

    This holds for the references that `ActorSystem.spawn` returns from now on, and for those in messages. So
    a program finds out before it has a cluster which messages can't be sent (`MessageRejected`), and which
    objects it shares by accident. In a ``with`` block, it ends with the block.
    """

    def __init__(
        self, system: ActorSystem, *, codec: str = "msgspec", max_message: int = MAX_MESSAGE_BYTES
    ) -> None:
        self._system = system
        self._spawn = system.spawn
        self._values = WireValues(open_codec(codec), self, max_message)
        system.spawn = self._spawned  # type: ignore[method-assign, assignment]  # undone by `__exit__`

    def _spawned(self, *args: Any, **options: Any) -> ActorRef[Any, Any]:
        return _CodecRef(self._spawn(*args, **options)._cell, self._values)

    def dump(self, ref: ActorRef[Any, Any]) -> str:
        """Write a reference as its address."""
        return str(ref.address)

    def load(self, text: str) -> ActorRef[Any, Any]:
        """Read a reference."""
        ref = self._system.ref_for(text)
        if ref is None:
            raise ValueError(f"no actor has the address {text[:200]!r} any more")
        return _CodecRef(ref._cell, self._values)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._system.spawn = self._spawn  # type: ignore[method-assign]  # as it was


class _CodecRef(ActorRef[M, R], Generic[M, R]):
    """A local reference whose messages go through the codec."""

    __slots__ = ("_values",)
    _values: WireValues

    def __init__(self, cell: Cell, values: WireValues) -> None:
        super().__init__(cell)
        object.__setattr__(self, "_values", values)

    async def tell(self, message: M) -> None:
        """Tell a copy."""
        await super().tell(self._copied(message))

    @overload
    async def ask(self, message: AskableBy[ActorRef[M, R], _T], *, timeout: float | None = None) -> _T: ...
    @overload
    async def ask(self, message: M, *, timeout: float | None = None) -> R: ...
    async def ask(self, message: Any, *, timeout: float | None = None) -> Any:
        """Ask with a copy, and return a copy."""
        try:
            reply = await super().ask(self._copied(message), timeout=timeout)
        except Exception as error:
            name, text = self._values.dump_error(error)
            again = self._values.load_error(name, text, self)
            if isinstance(again, RemoteFailure):
                raise again from error
            raise
        return self._copied(reply)

    def _copied(self, value: Any) -> Any:
        name, body = self._values.dump(value)
        return cast("Any", self._values.load(name, body))
