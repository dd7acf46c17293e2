"""The actor system: the one object that an application creates.

This file is long because it is the face of the package: one method for each thing that an application can ask
of a system. The methods check their arguments and hand over to `papyra._runtime`; concepts belong there.
"""

from __future__ import annotations

import math
import re
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, cast

import anyio
import anyio.lowlevel

from papyra._runtime import introspection
from papyra._runtime._eventloop import running_loop
from papyra._runtime.cell import NO_LIMIT, Cell
from papyra._runtime.containment.stack_guard import SCOPE_FRAMES, need_frames
from papyra._runtime.containment.thread_guard import check_thread, wrong_thread
from papyra._runtime.containment.user_values import describe, is_a
from papyra._runtime.delivery.broadcasting import Broadcast
from papyra._runtime.fact_writer import FactWriter
from papyra._runtime.history import History
from papyra._runtime.hook_calls import HookCalls
from papyra._runtime.instruments import Instruments
from papyra._runtime.observation.tallies import Walk
from papyra._runtime.phases import STOPPED
from papyra._runtime.process.clock import Clock
from papyra._runtime.process.interrupts import INTERRUPTS
from papyra._runtime.resources import resources
from papyra._runtime.running_system import RunningSystem
from papyra._runtime.spawning import spawn, unknown_keywords
from papyra._runtime.stopping import force, request_stop, stop_from_inside, stop_waiter
from papyra._runtime.tree import describe_row, rows
from papyra._runtime.wait_graph import StopWait, begin_wait, end_wait
from papyra.actor import Actor
from papyra.address import ActorAddress
from papyra.deadletters import policy_of
from papyra.exceptions import ActorNameTaken, NotClustered, SystemNotRunning
from papyra.persistence.backend import PersistenceBackend
from papyra.persistence.memory import InMemoryPersistence
from papyra.persistence.registry import open_backend
from papyra.persistence.startup import (
    PersistenceStartupMode,
    reach_store,
    run_startup_check,
    startup_config_of,
)
from papyra.portal import Portal
from papyra.ref import ActorRef
from papyra.settings import Settings, load_settings
from papyra.supervision import SupervisionPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import TracebackType
    from typing import Never, Self

    from papyra.audit import ActorInfo, AuditReport, TreeRow
    from papyra.cluster import ClusterDriver
    from papyra.deadletters import DeadLetterPolicy
    from papyra.events import ActorEvent
    from papyra.hooks import SystemHooks
    from papyra.instruments import Instrument
    from papyra.messages import DeadLetter
    from papyra.persistence.models import CompactionReport, JSONValue, PersistenceRecoveryConfig
    from papyra.persistence.startup import PersistenceStartupConfig
    from papyra.statistics import BusyActor, SystemStatistics
    from papyra.typing import M, R, Receives, Ts
    from papyra_contrib.cluster import Cluster

__all__ = ["ActorSystem", "DeadLetters"]

SLICE_ACTORS = 5_000
"""Actors that `ActorSystem.sample` counts between two turns of the event loop."""

_NODE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SYSTEM_ID = re.compile(r"[^:/\s]+")


class DeadLetters:
    """The messages that were not handled."""

    def __init__(self, history: History) -> None:
        self._history = history

    @property
    def messages(self) -> list[DeadLetter]:
        """The newest ones (1,000 unless the settings say otherwise), oldest first."""
        return list(self._history.dead_letters.letters)

    @property
    def count(self) -> int:
        """The number of all dead letters so far."""
        return self._history.dead_letters.ever

    def describe(self, letter: DeadLetter) -> tuple[str, JSONValue]:
        """Return type and payload of a message, no more than the `DeadLetterPolicy` lets the record have."""
        return self._history.dead_letters.describe(letter.message)

    def __len__(self) -> int:
        return len(self._history.dead_letters.letters)


class ActorSystem:
    """Spawns, names, supervises and watches actors, and records what happens to them.

    Use it as ``async with ActorSystem() as system:``, or call `start` and `aclose`, from any tasks.
    ``persistence`` is a backend or a backend URL; the default is that of the settings, or else memory.
    ``persistence_startup`` checks the store before any actor exists; ``persistence_recovery`` alone means to
    repair it at the start. ``time_fn`` replaces the clock and returns Unix time in seconds. If it raises,
    its last good reading is used. `aclose` gives the actors ``shutdown_timeout`` seconds (None: no
    limit). ``hooks`` may be any object with methods named like the hooks, or a module or an object with
    marked functions, like those of a hook plugin. ``instruments`` measure and trace the system (see
    `papyra.instruments`), in addition to those that the settings name. ``cluster`` is a cluster or its
    URL; the default is that of the settings, or else none. Then ``system_id`` is the node's name. Nothing
    is opened before `start`.
    """

    def __init__(
        self,
        *,
        system_id: str = "local",
        on_dead_letter: Callable[[DeadLetter], Awaitable[object] | object] | None = None,
        hooks: SystemHooks | object | None = None,
        time_fn: Callable[[], float] | None = None,
        persistence: PersistenceBackend | str | None = None,
        persistence_startup: PersistenceStartupConfig | PersistenceStartupMode | None = None,
        persistence_recovery: PersistenceRecoveryConfig | None = None,
        shutdown_timeout: float | None = 10.0,
        settings: Settings | None = None,
        instruments: Iterable[Instrument] = (),
        cluster: ClusterDriver | str | None = None,
        dead_letter_policy: DeadLetterPolicy | None = None,
    ) -> None:
        if not _SYSTEM_ID.fullmatch(system_id):
            raise ValueError(f"system_id must be a word without ':', '/' and white space, not {system_id!r}")
        if shutdown_timeout is not None and not shutdown_timeout >= 0:
            raise ValueError(f"shutdown_timeout must be at least 0 seconds or None, not {shutdown_timeout!r}")
        self._settings = settings or load_settings()
        if persistence is None:
            persistence = self._settings.persistence or InMemoryPersistence()
        if isinstance(persistence, str):
            persistence = open_backend(persistence)
        if not isinstance(persistence, PersistenceBackend):
            raise TypeError(f"persistence must be a PersistenceBackend or a backend URL, not {persistence!r}")
        self._system_id = system_id
        self._persistence = persistence
        self._startup = startup_config_of(persistence_startup, persistence_recovery)
        # By default the store is not scanned, but it has to be there.
        self._ignores_absence = (
            persistence_startup is not None and self._startup.mode is PersistenceStartupMode.IGNORE
        )
        self._shutdown_timeout = shutdown_timeout
        self._hooks = HookCalls(hooks, on_dead_letter)
        self._clock: Clock | None = None
        if time_fn is not None:
            if not callable(time_fn):
                raise TypeError(
                    f"time_fn must be a function that returns Unix time in seconds, not {time_fn!r}"
                )
            self._clock = Clock(time_fn, self._hooks.observer("ActorSystem(time_fn=...)"))
            persistence.time_fn = self._clock
        self._now: Callable[[], float] = time.time if self._clock is None else self._clock
        self._fact_writer = FactWriter(persistence, self._hooks, self._settings.fact_buffer)
        self._history = History(
            system_id,
            self._fact_writer,
            self._hooks,
            self._now,
            self._settings,
            policy_of(dead_letter_policy, self._settings),
        )
        self._dead_letters = DeadLetters(self._history)
        self._instruments = Instruments(instruments)
        self._cluster = _cluster_of(cluster or self._settings.cluster, system_id)
        self._core: RunningSystem | None = None
        self._starting: anyio.Event | None = None
        self._closed = False

    # -- life

    async def start(self) -> None:
        """Check the store, then start. A second call does nothing.

        If the start-up configuration does not accept damage in the store, this raises `RuntimeError` and
        starts nothing. It raises `PersistenceError` if the store can't be opened or does not answer a ping;
        with ``persistence_startup`` IGNORE that is logged, and facts wait for the store. A closed system
        can't be started again.
        """
        while self._starting is not None:
            await self._starting.wait()
        if self._core is not None and not self._core.closing:
            return
        if self._core is not None or self._closed:
            raise SystemNotRunning(self._system_id, "start", closed=True)
        self._starting = anyio.Event()
        try:
            loop = running_loop()
            # Before the check, which calls hooks: of plugins, and async ones.
            self._hooks.bind(loop)
            await self._hooks.add_plugins()
            await self._check_store()
            await self._instruments.load(self._settings.instruments)
            if self._closed:
                raise SystemNotRunning(self._system_id, "start", closed=True)
            core = RunningSystem(
                self,
                loop,
                self._history,
                self._fact_writer,
                self._hooks,
                self._clock,
                self._shutdown_timeout,
            )
            core.facts.started()
            if self._cluster is not None:
                await self._join(self._cluster, core)
            self._core = core
            INTERRUPTS.enter(core)
            self._instruments.start(core.rt)
        finally:
            self._starting.set()
            self._starting = None

    async def _join(self, cluster: ClusterDriver, core: RunningSystem) -> None:
        # Here and not above: a system without a cluster loads nothing of one.
        from papyra._runtime.local_system import LocalSystem

        core.rt.cluster = cluster
        local = LocalSystem(core)
        try:
            await cluster.open(local)
        except BaseException as error:
            local.background.close()
            core.timers.close()
            core.facts.stopped("error" if is_a(error, Exception) else "cancelled")
            with anyio.move_on_after(1.0, shield=True):
                await self._fact_writer.flush()
            raise

    async def _check_store(self) -> None:
        if self._persistence.closed:
            raise SystemNotRunning(self._system_id, "start with a store that is closed", closed=True)
        await reach_store(
            self._persistence,
            timeout_seconds=self._startup.timeout_seconds,
            required=not self._ignores_absence,
        )
        check = await run_startup_check(self._persistence, self._startup)
        if check.scan is not None:
            self._hooks.call("on_persistence_scan", check.scan)
        if check.recovery is not None:
            self._hooks.call("on_persistence_recovery", check.recovery)
        if not check.passed:
            with anyio.move_on_after(1.0):
                await self._hooks.drain()
        check.raise_if_failed()

    async def aclose(self, *, deadline: float | None = None) -> None:
        """Stop every actor, record every fact, close the store. A second call does nothing.

        The actors handle their queued messages for at most ``shutdown_timeout`` seconds. Then their running
        code is cancelled, and ``on_stop``, facts and hooks have less than a second more. If the caller is
        cancelled, the rest is cancelled at once; the caller still waits for the end and is cancelled then. An
        actor that calls this, or a task that it started, does not wait. If an actor ended the system (with a
        `KeyboardInterrupt`, say), that error is raised here.

        With ``deadline`` it returns within that many seconds, plus one, whatever actors, hooks and store do:
        up to 60 % for the mailboxes, 20 % for ``on_stop``, and the rest for the facts. It replaces
        ``shutdown_timeout``.
        """
        if deadline is not None and not 0 <= deadline < math.inf:
            raise ValueError(f"deadline must be at least 0 seconds and finite, not {deadline!r}")
        core = self._core
        if core is None:
            self._closed = True
            await self._persistence.aclose()
            return
        if core.closed.is_set():
            self._raise_fatal(core)
            return
        if core.rt.loop.is_closed():
            await core.close_after_loop()
            return
        check_thread(core.rt, "close the system")
        if not core.rt.loop.is_running_here():
            raise RuntimeError(
                f"actor system {self._system_id!r} runs in another event loop; close it there, or after that loop has ended"
            )
        if deadline is not None:
            core.limit_close(deadline)
        if core.called_from_inside():
            core.begin_close(forced=False)
            return
        await core.close(forced=False)
        self._raise_fatal(core)

    def _raise_fatal(self, core: RunningSystem) -> None:
        fatal, core.fatal = core.fatal, None
        if fatal is not None:
            raise fatal

    async def __aenter__(self) -> Self:
        await self.start()
        core = self._running("enter")
        core.host = anyio.CancelScope()
        core.host.__enter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        core = self._core
        assert core is not None  # noqa: S101 - __aenter__ made it
        assert core.host is not None  # noqa: S101 - as above
        closing_error: BaseException | None = None
        try:
            # If the host is cancelled already, so are the actors, and the close waits behind a shield.
            # asyncio may have cancelled the task itself: then the exception shows it, and no scope does.
            cancelled = is_a(exc, anyio.get_cancelled_exc_class())
            forced = cancelled or anyio.current_effective_deadline() == -float("inf")
            await core.close(forced=forced, error=exc)
        except BaseException as error:  # noqa: BLE001 - the host's cancellation: passed to its scope below, and raised again
            closing_error = exc = error
        swallowed = core.host.__exit__(
            type(exc) if exc is not None else None, exc, exc.__traceback__ if exc else None
        )
        self._raise_fatal(core)
        if closing_error is not None and not swallowed:
            raise closing_error
        return swallowed

    def _running(self, action: str) -> RunningSystem:
        core = self._core
        if core is not None and not core.rt.owner._is_owned():
            raise wrong_thread(core.rt, action)  # `check_thread`, without a call: each spawn comes here
        if core is None or core.closing:
            raise SystemNotRunning(self._system_id, action, closed=core is not None or self._closed)
        return core

    def _open(self, action: str) -> RunningSystem:
        """Return the core, also while it closes: actors that drain their mailboxes still need it."""
        core = self._core
        if core is not None:
            check_thread(core.rt, action)
        if core is None or core.closed.is_set():
            raise SystemNotRunning(self._system_id, action, closed=core is not None or self._closed)
        return core

    # -- actors

    def spawn(
        self,
        factory: Callable[[*Ts], Receives[M, R]],
        *args: *Ts,
        name: str | None = None,
        mailbox_capacity: int | None = 1024,
        policy: SupervisionPolicy | None = None,
        parent: ActorRef[Any, Any] | None = None,
        on_full: Literal["wait", "refuse"] = "wait",
        **unknown: Never,
    ) -> ActorRef[M, R]:
        """Make an actor and return its reference at once; ``on_start`` runs soon after.

        ``factory`` is an `Actor` subclass or a function that returns a new instance each time; it is called
        with ``args``. A restart calls it again with the same arguments. An error of the factory is raised
        here. Names are unique among living actors. At most ``mailbox_capacity`` messages may wait, then
        senders wait, or with ``on_full="refuse"`` get `MailboxFull` at once; None means no limit. Without a
        ``policy`` an unnamed actor stops on a failure, and a named one restarts, 3 times in 60 seconds: at
        once, after 0.5 s and after 1 s. Below an actor with a ``children_policy`` both restart.
        """
        if unknown:
            raise TypeError(unknown_keywords(factory, unknown))
        core = self._running("spawn an actor") if parent is None else self._open("spawn an actor")
        if mailbox_capacity is None:
            mailbox_capacity = NO_LIMIT
        elif type(mailbox_capacity) is not int or mailbox_capacity < 1:
            raise ValueError(
                f"mailbox_capacity must be at least 1, or None for no limit, not {mailbox_capacity!r}"
            )
        if name is not None and not (isinstance(name, str) and name):
            raise ValueError(f"an actor's name is a string that is not empty, not {name!r}")
        if policy is not None and not isinstance(policy, SupervisionPolicy):
            raise TypeError(
                f"policy must be a SupervisionPolicy, as in SupervisionPolicy(Strategy.RESTART), not {policy!r}"
            )
        if on_full not in ("wait", "refuse"):
            raise ValueError(f'on_full must be "wait" or "refuse", not {on_full!r}')
        above = core.lifecycle.guardian
        if parent is not None:
            above = self._cell(parent)
        cell = spawn(core.rt, factory, args, name, above, policy, mailbox_capacity)
        if on_full == "refuse":
            resources(cell).refuses_when_full = True
        return ActorRef(cell)

    def spawn_or_get(
        self,
        factory: Callable[[*Ts], Receives[M, R]],
        *args: *Ts,
        name: str,
        mailbox_capacity: int | None = 1024,
        policy: SupervisionPolicy | None = None,
        parent: ActorRef[Any, Any] | None = None,
        on_full: Literal["wait", "refuse"] = "wait",
        **unknown: Never,
    ) -> ActorRef[M, R]:
        """Return the living actor called ``name``, or else spawn it; there are never two.

        `ActorNameTaken` means that the actor of that name is stopping: its name is free when it has stopped.
        """
        living = self._living(name)
        if living is not None:
            return living
        try:
            return self.spawn(
                factory,
                *args,
                name=name,
                mailbox_capacity=mailbox_capacity,
                policy=policy,
                parent=parent,
                on_full=on_full,
                **unknown,
            )
        except ActorNameTaken:
            living = self._living(name)  # the factory itself has spawned it
            if living is None:
                raise
            return living

    def _living(self, name: str) -> ActorRef[Any, Any] | None:
        ref = self.ref_for_name(name)
        return ref if ref is not None and ref.is_alive() else None

    def portal(self, *, window: int = 1024) -> Portal:
        """Return a `Portal`, through which other threads reach actors. Call it on the event loop.

        At most ``window`` messages of its threads are on their way to mailboxes; one more waits.
        """
        core = self._running("make a portal")
        portal = Portal(core.rt, window)
        core.rt.portals.add(portal)
        return portal

    async def stop(self, ref: ActorRef[Any, Any], *, timeout: float | None = None) -> None:
        """Stop an actor and return when it has stopped.

        The actor refuses new messages, handles the queued ones, stops its children, newest first, and runs
        ``on_stop``. After ``timeout`` seconds its running code is cancelled. An actor that stops itself or
        one of its ancestors does not wait; it handles no message after the current one.
        """
        cell = self._cell(ref)
        check_thread(cell.rt, "stop an actor")
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be at least 0 seconds or None, not {timeout!r}")
        if cell.phase == STOPPED:
            return
        me = cell.rt.current_cell()
        if me is not None and me.is_below(cell):
            stop_from_inside(cell, me)
            return
        waiter = stop_waiter(cell)
        wait = StopWait(waiter)
        if me is not None:
            begin_wait(me, cell, wait)
        timer = None
        try:
            request_stop(cell)
            if timeout is not None:
                grace = max(timeout, 1.0)
                if self._shutdown_timeout is not None:
                    grace = min(grace, self._shutdown_timeout)
                timer = cell.rt.timers.after(timeout, partial(force, cell, grace))
            await waiter
            if wait.error is not None:
                raise wait.error
        finally:
            if me is not None:
                end_wait(me)
            if timer is not None and cell.phase == STOPPED:
                timer.cancel()

    async def stop_all(self) -> None:
        """Stop every actor, newest first. The system keeps running."""
        core = self._running("stop all actors")
        for cell in reversed(list((core.lifecycle.guardian.children or {}).values())):
            await self.stop(ActorRef(cell))

    async def broadcast(self, message: object, actor_type: type | str | None = None) -> int:
        """Tell ``message`` to every living actor, or to those of a type; return how many were told.

        It waits for room in all full mailboxes side by side, so no full one holds up the others. An actor
        that was spawned with ``on_full="refuse"`` and is full is not told. The message becomes a dead letter.
        """
        targets = self.refs() if actor_type is None else self.refs_by_type(actor_type)
        if self._core is None:
            return 0
        check_thread(self._core.rt, "tell an actor")
        broadcast = Broadcast(self._core.rt, message)
        await broadcast.send(ref._cell for ref in targets)
        return broadcast.told

    # -- finding them

    def ref_for(self, address: ActorAddress | str) -> ActorRef[Any, Any] | None:
        """Return the reference of the actor at an address; None if there is none."""
        core = self._open("look up an actor")
        if isinstance(address, str):
            address = ActorAddress.parse(address)
        if self._cluster is not None and address.system != self._system_id:
            return self._cluster.resolve(address)
        cell = core.rt.cells.get(address.actor_id) if address.system == self._system_id else None
        return ActorRef(cell) if cell is not None else None

    def ref_for_name(self, name: str) -> ActorRef[Any, Any] | None:
        """Return the reference of the living actor with a name; None if there is none."""
        cell = self._open("look up an actor").rt.names.get(name)
        return ActorRef(cell) if cell is not None else None

    def refs(self, alive_only: bool = True) -> list[ActorRef[Any, Any]]:
        """Return the references of all actors, oldest first; ``alive_only=False`` includes stopping ones."""
        return [ActorRef(cell) for cell in self._cells() if not alive_only or introspection.is_alive(cell)]

    def refs_by_type(self, type_or_name: type | str, alive_only: bool = True) -> list[ActorRef[Any, Any]]:
        """Return the references of the actors of a class or its subclasses, or of a class with this name."""
        return [
            ActorRef(cell)
            for cell in self._cells()
            if introspection.is_of_type(cell, type_or_name)
            and (not alive_only or introspection.is_alive(cell))
        ]

    def list_names(self) -> dict[str, ActorAddress]:
        """Return the names in use with the addresses of their actors, oldest first."""
        return (
            {name: cell.address for name, cell in self._core.rt.names.items()}
            if self._core is not None
            else {}
        )

    def list_actors(
        self,
        alive_only: bool = False,
        *,
        by: str | None = None,
        limit: int | None = None,
        offset: int = 0,
        matching: str | None = None,
    ) -> list[ActorInfo]:
        """Describe every actor, oldest first.

        ``by`` ``"mailbox"``, ``"processed"`` or ``"restarts"`` orders them, most first.

        ``limit`` actors are described, after ``offset`` others: a few of a million cost one look at each of
        the others. ``matching`` is a part of a name or of a class's name, in any case, or an actor's number.
        """
        if self._core is None:
            return []
        cells = introspection.select(self._cells(), alive_only, by, limit, offset, matching)
        return [introspection.describe_actor(cell) for cell in cells]

    def tree(
        self,
        below: ActorRef[Any, Any] | None = None,
        *,
        fold: int | None = 12,
        max_level: int | None = None,
        actor_type: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[TreeRow]:
        """Return the tree of actors as rows, parents before children, or the part of it below one actor.

        ``fold`` or more siblings of one type are one row; None folds none. ``limit`` rows are returned, after
        ``offset``, with ``actor_type`` only those of this type.
        """
        if self._core is None:
            return []
        top = self._core.lifecycle.guardian if below is None else self._cell(below)
        tree_rows = rows(top, fold, max_level, actor_type)
        chosen = islice(tree_rows, offset, None if limit is None else offset + limit)
        return [describe_row(members, level) for members, level in chosen]

    def actor_info(self, target: ActorRef[Any, Any] | ActorAddress | str) -> ActorInfo | None:
        """Describe one actor by its reference, address, ``"system:id"`` or name; None if there is none."""
        if isinstance(target, ActorRef):
            return introspection.describe_actor(self._cell(target))
        ref = self.ref_for_name(target) if isinstance(target, str) else self.ref_for(target)
        if ref is None and isinstance(target, str):
            try:
                ref = self.ref_for(target)
            except ValueError:
                return None  # neither the name of an actor nor an address
        return introspection.describe_actor(self._cell(ref)) if ref is not None else None

    def _cells(self) -> list[Cell]:
        return list(self._core.rt.cells.values()) if self._core is not None else []

    def _cell(self, ref: ActorRef[Any, Any]) -> Cell:
        if not isinstance(ref, ActorRef):
            hint = ". Give the reference, not the actor" if isinstance(ref, Actor) else ""
            raise TypeError(f"expected an ActorRef, as spawn() returns it, not {describe(ref)}{hint}")
        cell = ref._cell
        if self._cluster is not None and not isinstance(cell, Cell):
            raise TypeError(
                f"{ref!r} lives on another node: only its own node can stop or inspect it; send it a message"
            )
        if cell.rt.system is not self:
            raise ValueError(
                f"{ref!r} belongs to a different actor system, not to {self._system_id!r}. "
                "Use the system that spawned it"
            )
        return cell

    # -- facts

    def audit(self, include_actor_details: bool = True) -> AuditReport:
        """Return the state of the system now, and record it."""
        report = introspection.audit(self._running("audit").rt, details=include_actor_details)
        self._history.audit(report)
        return report

    def control_panel(self) -> dict[str, Any]:
        """Return an operator's overview as plain data: actors, queues, workers, facts, the store's counters.

        ``forced`` is True once a close has cancelled running code, because its time was over or its host was
        cancelled.
        """
        core = self._started("show a control panel")
        panel = introspection.panel(core.rt, self.state) | {"forced": core.forced}
        if self._cluster is not None:
            panel["cluster"] = self._cluster.panel()
        return panel

    def statistics(self) -> SystemStatistics:
        """Return the system in numbers, by the types of its actors, also after its close.

        One walk over all actors: about 0.2 us for each. It may be called in another thread while the system
        runs.
        """
        core = self._started("read statistics")
        walk = Walk(core.rt.tallies, core.rt.cells.values())
        walk.count(0, len(walk.cells))
        return introspection.statistics(core.rt, self.state, walk)

    async def sample(self) -> SystemStatistics:
        """Return the same as `statistics`, and keep the event loop for a millisecond at a time at most."""
        core = self._started("read statistics")
        walk = Walk(core.rt.tallies, core.rt.cells.values())
        for start in range(0, len(walk.cells), SLICE_ACTORS):
            walk.count(start, start + SLICE_ACTORS)
            await anyio.lowlevel.checkpoint()
        return introspection.statistics(core.rt, self.state, walk)

    def busy(self, limit: int | None = None) -> list[BusyActor]:
        """Return the actors whose code runs now, where they are in it, and since when.

        The longest comes first, and ``limit`` of them at most are returned. A message that this has seen
        before is known again, so the times are as exact as the looks are frequent.
        """
        return self._started("look at busy actors").busy.look(limit)

    def add_instrument(self, instrument: Instrument) -> None:
        """Measure the system with ``instrument`` from now on, or from its start on."""
        if self._closed or (self._core is not None and self._core.closing):
            raise SystemNotRunning(self._system_id, "add an instrument", closed=True)
        self._check_thread("add an instrument")
        self._instruments.add(instrument)

    def remove_instrument(self, instrument: Instrument) -> None:
        """Show ``instrument`` nothing more, and cancel its ``run``.

        One that was not added is a `ValueError`.
        """
        self._check_thread("remove an instrument")
        self._instruments.remove(instrument)

    def _check_thread(self, action: str) -> None:
        """Refuse a call from another thread while the system runs."""
        if self._core is not None and not self._core.closed.is_set():
            check_thread(self._core.rt, action)

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """The instruments that measure the system, those of plugins included."""
        return self._instruments.active()

    def _started(self, action: str) -> RunningSystem:
        if self._core is None:
            raise SystemNotRunning(self._system_id, action, closed=self._closed)
        return self._core

    @property
    def state(self) -> str:
        """``new``, ``running``, ``closing`` or ``closed``."""
        core = self._core
        if core is None:
            return "closed" if self._closed else "new"
        return "closed" if core.closed.is_set() else "closing" if core.closing else "running"

    def events(self, limit: int | None = None, actor: ActorAddress | None = None) -> list[ActorEvent]:
        """Return the newest ``limit`` lifecycle events, oldest first; only those of an ``actor`` if given.

        10,000 are kept unless the settings say otherwise; ``limit`` counts those of all actors.
        """
        first = 0 if limit is None else max(0, self._history.events_ever - limit)
        return self._history.events(first, None if actor is None else str(actor))

    def handled(self) -> dict[int, int]:
        """Return how many messages each actor has taken out of its mailbox, by the number of the actor."""
        return {cell.id: cell.processed for cell in self._cells()}

    async def wait_for_event(
        self,
        predicate_or_type: type[ActorEvent] | Callable[[ActorEvent], bool],
        *,
        timeout: float | None = 1.0,
        start_index: int = 0,
    ) -> ActorEvent:
        """Return the first event, past or future, of a type or for which a function returns True.

        ``start_index`` skips that many events from the start of the system. Raises `TimeoutError` after
        ``timeout`` seconds, and `SystemNotRunning` if the system closes first.
        """
        core = self._open("wait for an event")
        need_frames(SCOPE_FRAMES)
        kind = predicate_or_type
        given: Any = kind
        if isinstance(given, type) and issubclass(given, BaseException):
            raise TypeError(
                f"wait_for_event() waits for a class of papyra.events, and {given.__name__} here is an exception. "
                f"Use `from papyra import events` and events.{given.__name__}"
            )
        try:
            with anyio.fail_after(timeout):
                event = await self._history.wait_for_event(kind, start_index, core.closed.is_set)
        except TimeoutError:
            wanted = getattr(kind, "__name__", kind)
            raise TimeoutError(f"no event {wanted} within {timeout} s in {core.rt.system_id!r}") from None
        if event is None:
            raise SystemNotRunning(self._system_id, "wait for an event", closed=True)
        return event

    @property
    def dead_letters(self) -> DeadLetters:
        """The messages that were not handled."""
        return self._dead_letters

    @property
    def persistence_startup(self) -> PersistenceStartupConfig:
        """How the store is checked at the start."""
        return self._startup

    @property
    def persistence_recovery(self) -> PersistenceRecoveryConfig | None:
        """How the store is repaired at the start, if it is."""
        return self._startup.recovery

    @property
    def persistence(self) -> PersistenceBackend:
        """The store of facts."""
        return self._persistence

    @property
    def cluster(self) -> Cluster:
        """The cluster that this system is a node of; `NotClustered` without one."""
        if self._cluster is None:
            raise NotClustered(self._system_id)
        return cast("Cluster", self._cluster)

    @property
    def system_id(self) -> str:
        """The system's name in addresses and facts."""
        return self._system_id

    @property
    def run_id(self) -> str:
        """The id of this run, which all its facts carry; empty before `start`.

        It has 12 letters and digits, sorts by start (in steps of 10 ms), and no other run has it, on any
        host.
        """
        return self._history.run

    def now(self) -> float:
        """Return the system's time: Unix time in seconds, or that of its ``time_fn``."""
        return self._now()

    def monotonic(self) -> float:
        """Return the time on the clock that timers run on, in seconds.

        The event loop's, or that of a `ManualClock`.
        """
        return self._open("read the clock").timers.now()

    @property
    def blocking_threads(self) -> int:
        """The most threads that `ActorContext.run_blocking` uses at a time."""
        return self._settings.blocking_threads

    async def compact(self) -> CompactionReport:
        """Record every fact so far, then delete the records that the store's retention excludes."""
        await self.flush()
        return await self._persistence.compact()

    async def flush(self) -> None:
        """Return when every fact so far is recorded, or given up and counted."""
        self._check_thread("record facts")
        await anyio.lowlevel.checkpoint()  # a loop of flushes must not hold the event loop
        await self._fact_writer.flush()

    def __repr__(self) -> str:
        return f"<ActorSystem {self._system_id!r} {self.state}>"


def _cluster_of(cluster: ClusterDriver | str | None, system_id: str) -> ClusterDriver | None:
    if not cluster:
        return None
    if not _NODE_NAME.fullmatch(system_id):
        raise ValueError(
            f"the system_id of a cluster's node has 1 to 64 letters, digits, '_' and '-', and is not {system_id!r}"
        )
    if not isinstance(cluster, str):
        return cluster
    # Here and not above: a system without a cluster loads nothing of one.
    from papyra.cluster import open_cluster

    return open_cluster(cluster)
