"""The children of an actor, as `ActorContext.children` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from papyra.ref import ActorRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from papyra._runtime.cell import Cell

__all__ = ["Children"]


class Children(Sequence[ActorRef[Any, Any]]):
    """A view of the living children of one actor, oldest first. ``len`` and ``in`` cost O(1)."""

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def _all(self) -> tuple[ActorRef[Any, Any], ...]:
        return tuple([ActorRef(cell) for cell in (self._cell.children or {}).values()])

    def __len__(self) -> int:
        return len(self._cell.children or ())

    def __contains__(self, ref: object) -> bool:
        if type(ref) is not ActorRef:
            return False
        cell = ref._cell
        return cell.rt is self._cell.rt and cell.id in (self._cell.children or ())

    def __iter__(self) -> Iterator[ActorRef[Any, Any]]:
        yield from self._all()

    def __reversed__(self) -> Iterator[ActorRef[Any, Any]]:
        yield from reversed(self._all())

    @overload
    def __getitem__(self, index: int) -> ActorRef[Any, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ActorRef[Any, Any], ...]: ...
    def __getitem__(self, index: int | slice) -> ActorRef[Any, Any] | tuple[ActorRef[Any, Any], ...]:
        return self._all()[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Children):
            return self._all() == other._all()
        return self._all() == other if isinstance(other, tuple) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return repr(self._all())
