"""The stream: which subscriber gets an event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_args
from weakref import WeakKeyDictionary

from papyra import Actor, ActorRef, ActorTerminated
from papyra_contrib.eventstream._subscriber import Overflow, Subscriber

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from papyra import ActorSystem
    from papyra_contrib.eventstream._fact_hooks import FactHooks

__all__ = ["EventStream"]


class EventStream:
    """Publish and subscribe inside one system, by the class of an event; get it with `of`.

    A subscriber gets an event once, however many of its subscriptions match. Events of one publisher arrive
    in order. A subscription ends with its actor, and not with a restart.
    """

    _of: ClassVar[WeakKeyDictionary[ActorSystem, EventStream]] = WeakKeyDictionary()

    def __init__(self, system: ActorSystem) -> None:
        self._subscribers: dict[ActorRef[Any, Any], Subscriber] = {}
        self._topics: dict[type, dict[Hashable, dict[Subscriber, None]]] = {}
        self._known: WeakKeyDictionary[type, dict[Hashable, tuple[Subscriber, ...]]] = WeakKeyDictionary()
        self._keeper = system.spawn(_Keeper, self, mailbox_capacity=None)

    @classmethod
    def of(cls, system: ActorSystem, facts: FactHooks | None = None) -> EventStream:
        """Return the stream of a system.

        ``facts`` is the `FactHooks` that the system got as ``hooks=``: from now on its events and dead
        letters are published here.
        """
        stream = cls._of.get(system)
        if stream is None:
            stream = cls._of[system] = cls(system)
        if facts is not None:
            facts.stream = stream
        return stream

    def subscribe(
        self,
        ref: ActorRef[Any, Any],
        to: type,
        *,
        topic: Hashable = None,
        overflow: Overflow = "drop_newest",
        buffer: int = 1000,
    ) -> None:
        """Send ``ref`` the events of a class and its subclasses, of one topic or, without ``topic``, of all.

        ``overflow`` says what happens when ``buffer`` events wait or the mailbox is full: ``"drop_newest"``
        drops the new event, ``"drop_oldest"`` the oldest that waits, and the subscriber gets `Missed` before
        the next one; ``"wait"`` makes the publisher wait. Both hold for all subscriptions of ``ref``.
        Subscribing again is fine. A subscription made while an event is published gets the next one.
        """
        if not isinstance(ref, ActorRef):
            raise TypeError(f"expected an ActorRef, as spawn() returns it, not {ref!r}")
        if not isinstance(to, type):
            raise TypeError(f"expected the class of the events, not {to!r}")
        if overflow not in get_args(Overflow):
            raise ValueError(f"overflow must be one of {', '.join(get_args(Overflow))}, not {overflow!r}")
        if buffer < 1:
            raise ValueError(f"buffer must be at least 1 event, not {buffer!r}")
        subscriber = self._subscribers.get(ref)
        if subscriber is None:
            subscriber = self._subscribers[ref] = Subscriber(ref)
            self._keeper.tell_nowait(_Watch(ref))
        subscriber.overflow, subscriber.buffer = overflow, buffer
        subscriber.subscriptions[to, topic] = None
        self._topics.setdefault(to, {}).setdefault(topic, {})[subscriber] = None
        self._known.clear()

    def unsubscribe(self, ref: ActorRef[Any, Any], to: type | None = None, *, topic: Hashable = None) -> int:
        """End the subscriptions of ``ref`` that match the class and topic, or all; return how many ended."""
        subscriber = self._subscribers.get(ref)
        if subscriber is None:
            return 0
        ended = [
            (kind, subscribed_topic)
            for kind, subscribed_topic in subscriber.subscriptions
            if to in (None, kind) and topic in (None, subscribed_topic)
        ]
        for kind, subscribed_topic in ended:
            del subscriber.subscriptions[kind, subscribed_topic]
            topics = self._topics[kind]
            members = topics[subscribed_topic]
            del members[subscriber]
            if not members:
                del topics[subscribed_topic]
            if not topics:
                del self._topics[kind]
        self._known.clear()
        if not subscriber.subscriptions:
            del self._subscribers[ref]
        return len(ended)

    async def publish(self, event: object, topic: Hashable = None) -> int:
        """Send an event to its subscribers, and return their number.

        It waits only for those with ``"wait"``.
        """
        subscribers = self._matching(event, topic)
        for subscriber in subscribers:
            if subscriber.overflow != "wait":
                self._offer(subscriber, event)
        for subscriber in subscribers:
            if subscriber.overflow == "wait":
                await subscriber.deliver(event)
        return len(subscribers)

    def publish_nowait(self, event: object, topic: Hashable = None) -> int:
        """Send an event without waiting for any subscriber.

        A ``"wait"`` subscriber with a full mailbox misses it.
        """
        subscribers = self._matching(event, topic)
        for subscriber in subscribers:
            self._offer(subscriber, event)
        return len(subscribers)

    def _offer(self, subscriber: Subscriber, event: object) -> None:
        if subscriber.ref.is_alive() and subscriber.offer(event):
            subscriber.is_pumped = True
            self._keeper.tell_nowait(subscriber)

    def _matching(self, event: object, topic: Hashable) -> tuple[Subscriber, ...]:
        if not self._subscribers:
            return ()
        kind = type(event)
        by_topic = self._known.get(kind)
        if by_topic is None:
            by_topic = self._known[kind] = {None: _distinct(self._members(kind, None))}
        if topic is None:
            return by_topic[None]
        subscribers = by_topic.get(topic)
        if subscribers is None:
            members = self._members(kind, topic)
            if not members:
                return by_topic[None]  # not kept: there may be any number of topics without subscribers
            subscribers = by_topic[topic] = _distinct((*by_topic[None], *members))
        return subscribers

    def _members(self, kind: type, topic: Hashable) -> list[Subscriber]:
        members: list[Subscriber] = []
        for above in kind.__mro__:
            members += self._topics.get(above, {}).get(topic, ())
        return members


def _distinct(subscribers: Iterable[Subscriber]) -> tuple[Subscriber, ...]:
    return tuple(dict.fromkeys(subscribers))


@dataclass(frozen=True, slots=True)
class _Watch:
    ref: ActorRef[Any, Any]


class _Keeper(Actor):
    """Ends the subscriptions of actors that stop, and delivers events that wait for room."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    async def receive(self, message: object) -> None:
        if type(message) is _Watch:
            self.context.watch(message.ref)
        elif type(message) is ActorTerminated:
            self._stream.unsubscribe(message.ref)
        elif type(message) is Subscriber:
            self.context.start_soon(message.pump)
        # Anything else is a broadcast to all actors. isinstance() would run code of its class.
