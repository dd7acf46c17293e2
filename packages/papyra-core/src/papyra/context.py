"""An actor's view of the system it lives in."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from papyra._runtime import watching
from papyra._runtime._eventloop import current_tasks
from papyra._runtime.cell import NO_LIMIT
from papyra._runtime.children import Children
from papyra._runtime.containment.thread_guard import check_thread
from papyra._runtime.mailbox import waiting_messages
from papyra._runtime.resources import answering, resources, stash
from papyra._runtime.resources.actor_timers import MISSING, ActorTimers, check_keywords, set_receive_timeout
from papyra._runtime.resources.pipes import start_pipe
from papyra._runtime.stopping import stop_from_inside
from papyra._runtime.worker import WORKERS
from papyra.ref import ActorRef
from papyra.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence
    from typing import Never, NoReturn

    from papyra._runtime.cell import Cell
    from papyra._runtime.resources.pipes import Pipe
    from papyra.supervision import SupervisionPolicy
    from papyra.system import ActorSystem
    from papyra.typing import M, R, Receives, Ts

__all__ = ["ActorContext", "current_actor"]

_T = TypeVar("_T")
_Fits = TypeVar("_Fits")
"""A type variable in a return type alone.

What such a call returns fits every reply type, for both checkers.
"""


def current_actor() -> ActorRef[Any, Any] | None:
    """Return the reference of the actor whose code runs here; None outside of actors.

    It may be called anywhere, in any thread. A task that an actor started is not the actor's own code.
    """
    for task in current_tasks():
        worker = WORKERS.get(task)
        if worker is not None and worker.cell is not None:
            return ActorRef(worker.cell)
    return None


class _Done:
    """A finished awaitable. With it ``context.watch(ref)`` and ``await context.watch(ref)`` both work."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_DONE = _Done()


class ActorContext:
    """The actor's own reference, its parent, its children and its system, and the operations on them."""

    # A slot, and no property: a property's call costs 15 times as much.
    __slots__ = ("_cell", "self_ref")

    _cell: Cell

    self_ref: ActorRef[Any, Any]
    """The actor's own reference."""

    def __init__(self, cell: Cell) -> None:
        object.__setattr__(self, "_cell", cell)
        object.__setattr__(self, "self_ref", ActorRef(cell))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name!r} of an actor's context can't be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name!r} of an actor's context can't be deleted")

    @property
    def system(self) -> ActorSystem:
        """The system the actor lives in."""
        return self._cell.rt.system

    @property
    def parent(self) -> ActorRef[Any, Any] | None:
        """The parent's reference; None for an actor that was spawned by the system itself."""
        parent = self._cell.parent
        return ActorRef(parent) if parent is not None and parent.parent is not None else None

    @property
    def children(self) -> Sequence[ActorRef[Any, Any]]:
        """The living children, oldest first: always those of the moment.

        Its length costs O(1). A loop over it goes over the children there were when it began. ``tuple(...)``
        makes a copy that stays.
        """
        return Children(self._cell)

    def spawn_child(
        self,
        factory: Callable[[*Ts], Receives[M, R]],
        *args: *Ts,
        name: str | None = None,
        mailbox_capacity: int | None = 1024,
        policy: SupervisionPolicy | None = None,
        on_full: Literal["wait", "refuse"] = "wait",
        **unknown: Never,
    ) -> ActorRef[M, R]:
        """Spawn an actor below this one; see `ActorSystem.spawn`."""
        return self.system.spawn(
            factory,
            *args,
            name=name,
            mailbox_capacity=mailbox_capacity,
            policy=policy,
            on_full=on_full,
            parent=ActorRef(self._cell),
            **unknown,
        )

    def stop_self(self) -> Awaitable[None]:
        """Stop after the current message; the queued messages become dead letters. Returns at once."""
        check_thread(self._cell.rt, "stop an actor")
        stop_from_inside(self._cell, self._cell)
        return _DONE

    async def stop(self, ref: ActorRef[Any, Any], *, timeout: float | None = None) -> None:
        """Stop an actor; see `ActorSystem.stop`."""
        await self.system.stop(ref, timeout=timeout)

    def watch(self, ref: ActorRef[Any, Any]) -> Awaitable[None]:
        """Receive one `ActorTerminated` message when the actor ``ref`` has stopped.

        It comes at once if the actor has stopped already. Watchers are not notified of a restart. Watching an
        actor twice has the same effect as once.
        """
        check_thread(self._cell.rt, "watch an actor")
        watching.watch(self._cell, ref._cell)
        return _DONE

    def unwatch(self, ref: ActorRef[Any, Any]) -> Awaitable[None]:
        """Stop watching ``ref``: no `ActorTerminated` arrives for it."""
        check_thread(self._cell.rt, "unwatch an actor")
        watching.unwatch(self._cell, ref._cell)
        return _DONE

    # -- timers

    @property
    def timers(self) -> ActorTimers:
        """The actor's timers, one for each key."""
        check_thread(self._cell.rt, "use timers")
        mine = resources(self._cell)
        if mine.timers is None:
            mine.timers = ActorTimers(mine)
        return mine.timers

    def set_receive_timeout(
        self,
        seconds: float | None,
        *misplaced: Never,
        send: object = MISSING,
        call: Callable[[], object] | None = None,
    ) -> None:
        """Deliver ``send=``, or run ``call=`` in the actor, whenever it was idle for ``seconds``.

        None ends that.

        The time counts from the end of the last handling. Messages, proxy calls and results of background
        work are activity, ticks of the actor's own timers are not. The time-out is handled before anything
        that comes later, and comes again until it is ended. A restart and a stop end it.
        """
        check_keywords("set_receive_timeout", misplaced)
        check_thread(self._cell.rt, "set a receive timeout")
        set_receive_timeout(resources(self._cell), seconds, send, call)

    # -- what an actor may do with a message, besides returning its reply

    def stash(self, message: object) -> _Fits:  # type: ignore[type-var]  # it fits every reply
        """Put the current message aside until `unstash_all`, as in ``return self.context.stash(message)``.

        An ask keeps its asker, its time-out and its place. Raises `StashOverflow` if ``Actor.stash_capacity``
        messages are in the stash. A restart puts the stash back at the front of the mailbox; a stop makes
        dead letters of it.
        """
        check_thread(self._cell.rt, "stash a message")
        stash.stash(self._cell, message)
        return None  # type: ignore[return-value]  # ignored: it is not the reply

    def unstash_all(self) -> int:
        """Put the stash at the front of the mailbox, oldest first. Return how many messages that were."""
        check_thread(self._cell.rt, "unstash messages")
        return stash.unstash_all(self._cell)

    @property
    def stashed(self) -> int:
        """How many messages are in the stash."""
        return stash.stashed(self._cell)

    async def forward(self, ref: ActorRef[Any, Any], message: object) -> _Fits:  # pyright: ignore[reportInvalidTypeVarUse]  # as above
        """Hand a message on, and the duty to reply with it.

        ``return await self.context.forward(ref, message)``.

        ``ref`` answers the asker directly, and the asker now waits for ``ref``. If ``ref`` is stopped the
        asker gets `ActorStopped`, there is one dead letter, and this actor goes on. So it does where the wait
        for room in ``ref`` would go in a circle: the asker gets `AskDeadlock`, and a tell is a dead letter.
        """
        check_thread(self._cell.rt, "forward a message")
        await answering.forward(self._cell, ref._cell, message)
        return None  # type: ignore[return-value]  # as above

    def reply_later(self) -> Reply[Any]:
        """Answer the current message later.

        Write ``handle = self.context.reply_later()``, then ``return handle.later``. Other messages are
        handled meanwhile. For a tell the handle is one that nobody waits for.
        """
        check_thread(self._cell.rt, "take a reply")
        return Reply(self._cell, answering.answer_later(self._cell))

    def unhandled(self, message: object) -> _Fits:  # type: ignore[type-var]  # as above
        """Say that the actor has no code for a message: ``case _: return self.context.unhandled(message)``.

        It becomes a dead letter with the reason ``unhandled``, and an asker gets `UnhandledMessage` at once.
        The actor has not failed.
        """
        check_thread(self._cell.rt, "refuse a message")
        answering.unhandled(self._cell, message)
        return None  # type: ignore[return-value]  # as above

    @property
    def reply_expected(self) -> bool:
        """Whether a caller waits for the reply to the message that is being handled.

        False for a tell, and for an ask that timed out or was cancelled meanwhile: long work may stop early.
        """
        envelope = self._cell.answering
        return envelope is not None and envelope.is_awaited()

    # -- background work

    def pipe_to_self(
        self,
        work: Awaitable[_T] | Callable[[], Awaitable[_T]],
        then: Callable[[_T], object],
        *,
        catch: Callable[[Exception], object] | None = None,
    ) -> Pipe:
        """Await ``work`` in a task of its own, and run ``then(value)`` in the actor, or ``catch(error)``.

        ``work`` is an awaitable or an async function; ``then`` and ``catch`` are plain or async. They run
        between messages, like all code of the actor. An error without ``catch`` is a failure of the actor.
        The work ends with the instance: it is cancelled, and over, before ``on_stop``.
        """
        check_thread(self._cell.rt, "start background work")
        return start_pipe(self._cell, work, then, catch)

    def start_soon(
        self, async_fn: Callable[..., Awaitable[object]], *args: Any, name: str | None = None
    ) -> Pipe:
        """Run ``await async_fn(*args)`` in a background task that this actor owns.

        An error is a failure of the actor. The task is cancelled, and over, before ``on_stop``, also at a
        restart.
        """
        check_thread(self._cell.rt, "start background work")
        return start_pipe(
            self._cell, partial(async_fn, *args), None, name=name or getattr(async_fn, "__qualname__", None)
        )

    async def run_blocking(self, fn: Callable[..., _T], *args: Any, abandon_on_cancel: bool = False) -> _T:
        """Run ``fn(*args)`` in a thread, and return what it returns.

        The system has ``Settings.blocking_threads`` of them, apart from anyio's. A call that is cancelled
        before a thread is free runs nothing. Later it waits for the thread; with ``abandon_on_cancel`` it
        leaves the thread to itself, which ``control_panel()["threads"]`` still counts.
        """
        check_thread(self._cell.rt, "run blocking code")
        rt = self._cell.rt
        me = self._cell if rt.current_cell() is self._cell else None
        return await rt.threads.run(me, fn, args, abandon=abandon_on_cancel)  # type: ignore[no-any-return]  # what fn returned

    # -- the mailbox

    @property
    def mailbox_depth(self) -> int:
        """How many messages wait in the actor's mailbox now."""
        return waiting_messages(self._cell)

    @property
    def mailbox_capacity(self) -> int | None:
        """The most messages that may wait in the actor's mailbox; None for no limit."""
        capacity = self._cell.capacity
        return None if capacity >= NO_LIMIT else capacity

    def __repr__(self) -> str:
        return f"<ActorContext of {self._cell}>"
