"""Watching: `ActorTerminated` for the actors that watch an actor which has stopped."""

from __future__ import annotations

from functools import partial
from typing import Any

from papyra._runtime.cell import Cell
from papyra._runtime.envelope import Envelope
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
            f"actor {watched} belongs to a different actor system, not to that of {watcher}. "
            "An actor can watch only actors of its own system"
        )
    if watched is watcher:
        raise ValueError(
            f"actor {watcher} can't watch itself: it would have stopped before the message arrives"
        )
    if watched.phase == STOPPED:
        _notify(watcher, watched)
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
    entry = watcher.watching.get(watched.id) if watcher.watching else None
    if type(entry) is Envelope:
        entry.call = _skip  # the message is queued already
    elif watcher.watching:
        watcher.watching.pop(watched.id, None)
    if watched.watchers:
        watched.watchers.pop(watcher.id, None)


def tell_watchers(watched: Cell) -> None:
    """Notify every watcher that ``watched`` has stopped."""
    watchers, watched.watchers = watched.watchers, None
    for watcher in (watchers or {}).values():
        if not isinstance(watcher, Cell):
            watcher.note_stopped(watched)
            continue
        if watcher.watching:
            watcher.watching.pop(watched.id, None)
        _notify(watcher, watched)


def forget(watcher: Cell) -> None:
    """End all watching by ``watcher``."""
    watching, watcher.watching = watcher.watching, None
    for entry in (watching or {}).values():
        if type(entry) is Cell and entry.watchers:
            entry.watchers.pop(watcher.id, None)


def _notify(watcher: Cell, watched: Cell) -> None:
    """Queue the message for ``watcher``, unless it is queued already.

    It is an envelope, which ``watcher.watching`` keeps until it is handled. So `watch` and `unwatch` never
    look through the mailbox, whose messages are user values.
    """
    # A full mailbox never refuses this message. A watcher that handles no more messages gets none.
    if watcher.phase >= STOPPING_CHILDREN or watcher.halted or watcher.force:
        return
    if watcher.watching is None:
        watcher.watching = {}
    entry = watcher.watching.get(watched.id)
    deliver = partial(_deliver, watcher, watched.id)
    if type(entry) is Envelope:
        entry.call = deliver
        return
    notice = Envelope(ActorTerminated(ActorRef(watched), watched.reason), expects_reply=False)
    notice.call = deliver
    enqueue(watcher, notice)
    watcher.watching[watched.id] = notice


async def _deliver(watcher: Cell, number: int, actor: Any) -> Any:
    notice = watcher.watching.pop(number, None) if watcher.watching else None
    if type(notice) is Envelope:
        return await (watcher.receive or actor.receive)(notice.message)
    return None


async def _skip(_actor: Any) -> None:
    """Handle a message that `unwatch` has withdrawn."""
