"""Spawning: from a user's factory to a queued cell."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from papyra._runtime.cell import Cell
from papyra._runtime.containment.frames import calls_actor
from papyra._runtime.containment.user_values import close_coroutine, describe, is_a
from papyra._runtime.context_guard import changed_variables, tree_of
from papyra._runtime.phases import DRAINING, RUNNING, STARTING
from papyra._runtime.restart_group import children_policy
from papyra.actor import Actor
from papyra.exceptions import ActorNameTaken, ActorStopped
from papyra.supervision import NAMED_POLICY, UNNAMED_POLICY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Context

    from papyra._runtime.runtime import Runtime
    from papyra.supervision import SupervisionPolicy

__all__ = ["build", "spawn", "unknown_keywords"]

_NO_INIT = object.__init__


def spawn(
    rt: Runtime,
    factory: Callable[..., Any],
    args: tuple[object, ...],
    name: str | None,
    parent: Cell,
    policy: SupervisionPolicy | None,
    capacity: int,
) -> Cell:
    """Build an actor and its cell, and queue its start. Errors of the factory are raised to the caller."""
    if name is not None:
        name = str.__str__(name)  # of a member of a StrEnum: facts hold plain JSON
    if name is not None and name in rt.names:
        raise ActorNameTaken(name, rt.names[name])
    if (parent.stopping or parent.phase != RUNNING) and not _takes_children(parent):
        raise ActorStopped(parent, "is stopping or restarting and takes no children")
    if args and callable(factory):
        factory = partial(factory, *args)
    variables = None
    if type(factory) is type and factory.__init__ is _NO_INIT:  # type: ignore[misc]  # only compared
        actor = build(factory)
    else:
        context = copy_context()
        actor = build(factory, context)
        if context != rt.clean_context and tree_of(context) is not tree_of(rt.loop.clean_context):
            variables = changed_variables(context, copy_context(), rt.loop.clean_context)
    if variables is None and actor.own_task:
        variables = rt.loop.clean_context.copy()
    if policy is None and parent.actor is not None and children_policy(parent) is not None:
        policy = NAMED_POLICY
    if policy is None:
        policy = UNNAMED_POLICY if name is None else NAMED_POLICY
    # What was called above is user code: it may have spawned actors itself.
    if name is not None and name in rt.names:
        raise ActorNameTaken(name, rt.names[name])
    rt.last_id = number = rt.last_id + 1
    cell = Cell(rt, number, name, parent, factory, policy, capacity)
    actor._papyra_cell = cell
    if not rt.awake:
        rt.wake()  # before the cell is registered: if it raises, nothing has changed
    cell.actor = actor
    cell.actor_type = type(actor)
    cell.variables = variables
    rt.cells[number] = cell
    if name is not None:
        rt.names[name] = cell
    if parent.children is None:
        parent.children = {}
    parent.children[number] = cell
    rt.ready.append(cell)
    return cell


@calls_actor
def build(factory: Callable[[], Any], context: Context | None = None) -> Actor:
    """Call a factory, in ``context`` if it is given, and return its actor, which must be a new one."""
    if not callable(factory):
        raise TypeError(_not_a_factory(factory))
    try:
        actor = factory() if context is None else context.run(factory)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            # Python refused the call itself: the arguments do not fit.
            error.add_note(
                "spawn(factory, *args) calls the factory with these arguments, and again at each restart. "
                "Give it exactly the arguments that it takes"
            )
        raise
    if not issubclass(type(actor), Actor):  # unlike isinstance, it runs no code of the value
        close_coroutine(actor)
        raise TypeError(
            "spawn() needs an Actor subclass or a function that returns an Actor; "
            f"{describe(factory)} returned {describe(actor)}"
        )
    if actor._papyra_cell is not None:
        raise ValueError(
            f"{describe(factory)} returned an actor that was spawned already; each spawn needs a new instance"
        )
    return actor  # type: ignore[no-any-return]  # it was checked above


def unknown_keywords(factory: object, given: Iterable[str]) -> str:
    """Return the text of the error for keyword arguments that spawn() does not have."""
    names = ", ".join(f"{name}=" for name in given)
    shown = ", ".join(f"{name}=..." for name in given)
    kind = getattr(factory, "__name__", "factory")
    return (
        f"spawn() has no option {names}. Only positional arguments are passed to the factory: "
        f"use functools.partial, as in spawn(partial({kind}, {shown}))"
    )


def _not_a_factory(value: object) -> str:
    hint = ". Give the class or a function, not an instance" if is_a(value, Actor) else ""
    return f"spawn() needs an Actor subclass or a function that returns an Actor, not {describe(value)}{hint}"


def _takes_children(cell: Cell) -> bool:
    """Return whether an actor may spawn.

    It may do so while it drains its mailbox, because that is ordinary work.
    """
    if cell.parent is None:
        return not cell.stopping
    return cell.phase in (STARTING, RUNNING, DRAINING) and not cell.halted and not cell.force
