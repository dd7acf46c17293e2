"""Watching: `ActorTerminated` for the actors that watch an actor which has stopped."""

from __future__ import annotations

from papyra._runtime.cell import Cell
from papyra._runtime.mailbox import enqueue
from papyra._runtime.phases import STOPPED, STOPPING_CHILDREN
from papyra.messages import ActorTerminated
from papyra.ref import ActorRef

__all__ = ["forget", "tell_watchers", "unwatch", "watch"]


def watch(watcher: Cell, watched: Cell) -> None:
    """Notify ``watcher`` when ``watched`` has stopped."""
    if watched.rt is not watcher.rt:
        cluster = watcher.rt.cluster
        if cluster is not None and cluster.watch(ActorRef(watcher), watched):
            return
        raise ValueError(
            f"actor {watched} belongs to another actor system than {watcher}; an actor can watch only actors of its own system"
        )
    if watched is watcher:
        raise ValueError(
            f"actor {watcher} can't watch itself: it would have stopped before the message arrives"
        )
    if watched.phase == STOPPED:
        if not any(
            isinstance(item, ActorTerminated) and item.ref == ActorRef(watched) for item in watcher.box or ()
        ):
            _tell(watcher, watched)
        return
    if watcher.phase == STOPPED:
        return  # called by a task that the actor left behind
    if watched.watchers is None:
        watched.watchers = {}
    if watcher.watching is None:
        watcher.watching = {}
    watched.watchers[watcher.id] = watcher
    watcher.watching[watched.id] = watched


def unwatch(watcher: Cell, watched: Cell) -> None:
    """Undo `watch`."""
    cluster = watcher.rt.cluster
    if watched.rt is not watcher.rt and cluster is not None and cluster.unwatch(ActorRef(watcher), watched):
        return
    if watcher.watching:
        watcher.watching.pop(watched.id, None)
    if watched.watchers:
        watched.watchers.pop(watcher.id, None)
    box = watcher.box
    if box and watched.phase == STOPPED:  # the message may be queued already
        for _ in range(len(box)):
            item = box.popleft()
            if not (isinstance(item, ActorTerminated) and item.ref == ActorRef(watched)):
                box.append(item)


def tell_watchers(watched: Cell) -> None:
    """Notify every watcher that ``watched`` has stopped."""
    watchers, watched.watchers = watched.watchers, None
    for watcher in (watchers or {}).values():
        if not isinstance(watcher, Cell):
            watcher.told(watched)
            continue
        if watcher.watching:
            watcher.watching.pop(watched.id, None)
        _tell(watcher, watched)


def forget(watcher: Cell) -> None:
    """End all watching by ``watcher``."""
    watching, watcher.watching = watcher.watching, None
    for watched in (watching or {}).values():
        if watched.watchers:
            watched.watchers.pop(watcher.id, None)


def _tell(watcher: Cell, watched: Cell) -> None:
    # A full mailbox never refuses this message. A watcher that handles no more messages gets none.
    if watcher.phase < STOPPING_CHILDREN and not watcher.halted and not watcher.force:
        enqueue(watcher, ActorTerminated(ActorRef(watched), watched.reason))
