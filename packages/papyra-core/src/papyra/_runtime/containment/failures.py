"""The errors of actors' code as failures: which exceptions they become, and advice on common mistakes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import anyio

from papyra._runtime.containment.user_values import bounded_text, is_a, type_name

if TYPE_CHECKING:
    from papyra._runtime.cell import Cell
    from papyra.actor import Actor

__all__ = ["as_failure", "leave_scopes", "left_open", "note_plain_methods", "own_failure"]

MAX_TEXT_CHARACTERS = 200


def note_plain_methods(actor: Actor, error: Exception) -> None:
    """Note on the error of awaiting a plain function's result that ``receive`` has to be ``async def``."""
    try:
        text = bounded_text(error, MAX_TEXT_CHARACTERS)
        if "'await' expression" not in text and "'async for'" not in text:
            return
        for name in ("receive", "on_start"):
            method = getattr(actor, name)
            advice = f"is a plain function: write `async def {name}`"
            if inspect.isasyncgenfunction(method):
                advice = "is an async generator, because it has a yield: return one value instead"
            if not inspect.iscoroutinefunction(method):
                error.add_note(f"{type_name(type(actor))}.{name} {advice}")
    except KeyboardInterrupt:
        raise  # Ctrl-C comes anywhere
    except BaseException:  # noqa: BLE001 - the error's text and the actor's attributes are user code; the note only helps
        return


def as_failure(cell: Cell, source: str, error: BaseException) -> Exception:
    """Return ``error``, or an `Exception` in its place whose cause it is.

    Only those are failures of an actor.
    """
    if is_a(error, Exception):
        return error
    failure = RuntimeError(f"{source} of actor {cell} raised {type_name(type(error))}")
    failure.__cause__ = error
    return failure


def own_failure(cell: Cell, error: BaseException) -> Exception | None:
    """Return ``error`` as a failure of the actor, or None if it has to be raised again (guarantee 12).

    Scopes that the actor's code left open are closed: they may be cancelled, and a failure waits for
    decisions.
    """
    leave_scopes(cell)
    if is_a(error, Exception):
        return error
    if is_a(error, anyio.get_cancelled_exc_class()):
        return cell.rt.spurious_cancellation(cell, error)
    return None


def leave_scopes(cell: Cell) -> bool:
    """Close what the actor's code left open in a task of many actors. Return whether there was anything."""
    worker = cell.rt.workers.get(cell.rt.loop.current_task())
    if worker is None or worker.own or worker.interrupted or not worker.left_open():
        return False
    worker.close_scopes()
    return True


def left_open(cell: Cell, where: str) -> RuntimeError:
    """Build the error of an actor that left a cancel scope or a task group open."""
    return RuntimeError(
        f"actor {cell} left a cancel scope or a task group open at the end of {where}: it is the task of many actors. "
        "Set `own_task = True` in the class to keep it open from on_start to on_stop, or start background work with "
        "context.start_soon()"
    )
