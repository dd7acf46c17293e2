"""Acts on the bytes that a peer sends. No such bytes make this module raise."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from papyra.cluster import Mail
from papyra_contrib.cluster._errors import ActorStopped, MessageRejected
from papyra_contrib.cluster._wire import frames as wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from papyra import ActorRef
    from papyra.cluster import LocalSystem
    from papyra_contrib.cluster._links.link import Link
    from papyra_contrib.cluster._remote.asks import PendingAsks
    from papyra_contrib.cluster._remote.exports import Exports
    from papyra_contrib.cluster._wire.frames import Frame
    from papyra_contrib.cluster._wire.values import WireValues

    class Surroundings(Protocol):
        """The cluster, as a receiver calls it."""

        def target_ended(self, link: Link, number: int, reason: str) -> None: ...
        def deliver_broadcast(self, key: str, message: object) -> None: ...


__all__ = ["Receiver", "deliver_to"]

_logger = logging.getLogger("papyra")


class Receiver:
    """Handles the frames of one incarnation of this node."""

    def __init__(
        self,
        local: LocalSystem,
        exports: Exports,
        asks: PendingAsks,
        values: WireValues,
        surroundings: Surroundings,
        extract: Callable[[str], AbstractContextManager[object]] | None,
    ) -> None:
        self._local = local
        self._exports = exports
        self._asks = asks
        self._values = values
        self._surroundings = surroundings
        self._extract = extract

    def receive(self, link: Link, message: bytes) -> None:
        """Handle a message of a peer; a malformed one is counted and dropped."""
        try:
            for frame in wire.parse(message):
                self._handle(link, frame)
        except wire.MalformedFrame as error:
            link.counters.rejected += 1
            _logger.warning("dropped a malformed message of %s: %s", link.peer, error)
        except Exception:
            link.counters.rejected += 1
            _logger.exception("handling a message of %s raised", link.peer)
        link.out.flush()  # not in the next pass: a sender may wait for these credits

    def fail(self, link: Link, frame: Frame, error: Exception) -> None:
        """Answer an ask with an error. A tell has no answer."""
        if frame.kind == wire.ASK:
            name, text = self._values.dump_error(error)
            link.out.add(wire.encode(wire.ERROR, 0, text, corr=frame.corr, type_name=name))

    def _handle(self, link: Link, frame: Frame) -> None:
        match frame.kind:
            case wire.TELL | wire.ASK:
                if link.inbound.accept(frame.seq):
                    self._message(link, frame)
            case wire.REPLY:
                self._reply(link, frame)
            case wire.ERROR:
                self._error(link, frame)
            case wire.CREDIT:
                link.out.credited(_number(frame.target), frame.seq)
            case wire.PROBE:
                number = _number(frame.target)
                last = link.inbound.probed(number, frame.seq)
                link.out.add(wire.encode(wire.CREDIT, number, seq=last))
            case wire.WATCH:
                self._exports.watch(link.peer, _numbers(frame.body), complete=frame.corr == 1)
            case wire.UNWATCH:
                self._exports.unwatch(link.peer, _numbers(frame.body))
            case wire.TERMINATED:
                self._surroundings.target_ended(link, _number(frame.target), frame.type_name)
            case wire.BROADCAST:
                self._broadcast(link, frame)
            case _:
                raise wire.MalformedFrame(f"kind {frame.kind!r}")

    def _message(self, link: Link, frame: Frame) -> None:
        number = _number(frame.target)
        ref = self._exports.get(number)
        try:
            if ref is None:
                raise self._unreachable(link, number)
            value = self._values.load(frame.type_name, frame.body)
        except (ActorStopped, MessageRejected) as error:
            if isinstance(error, MessageRejected):
                link.counters.rejected += 1
            letter = {"wire_type": frame.type_name, "bytes": len(frame.body), "from": str(link.peer)}
            self._local.refuse(ref or self._local.find(number), letter, expects_reply=frame.kind == wire.ASK)
            self.fail(link, frame, error)
            return
        answered = self._answering(link, frame) if frame.kind == wire.ASK else None
        link.inbound.deliver(ref, number, frame, Mail(value, answered, self._inside(frame.trace)))

    def _unreachable(self, link: Link, number: int) -> Exception:
        """Say why an actor can't be reached, and let the sender know if it has ended."""
        if self._local.find(number) is not None:
            return MessageRejected("not_exported", f"no reference to actor {number} was ever sent")
        if self._local.was_spawned(number):
            reason = self._exports.reason(number)
            link.out.add(wire.encode(wire.TERMINATED, number, type_name=reason))
            return ActorStopped(f"{number}")
        return MessageRejected("not_exported", f"there is no actor {number}")

    def _inside(self, trace: str) -> Callable[[], AbstractContextManager[object]] | None:
        extract = self._extract
        return (lambda: extract(trace)) if extract is not None and trace != "-" else None

    def _answering(self, link: Link, frame: Frame) -> Callable[[object, BaseException | None], None]:
        def answered(value: object, error: BaseException | None) -> None:
            kind = wire.REPLY
            try:
                name, body = self._values.dump(value if error is None else None)
            except MessageRejected as rejected:
                error = rejected  # the asker raises it; the actor does not fail
                name, body = "-", b""
            if error is not None:
                kind = wire.ERROR
                name, body = self._values.dump_error(error)
            link.out.add(wire.encode(kind, 0, body, corr=frame.corr, type_name=name))

        return answered

    def _reply(self, link: Link, frame: Frame) -> None:
        ask = self._asks.find(frame.corr, link.peer)
        if ask is None:
            return
        link.out.credited(ask.target.id, ask.number)
        try:
            ask.answer(self._values.load(frame.type_name, frame.body))
        except MessageRejected as error:
            ask.answer(None, error)

    def _error(self, link: Link, frame: Frame) -> None:
        ask = self._asks.find(frame.corr, link.peer)
        if ask is not None:
            if not frame.type_name.startswith("!"):
                link.out.credited(ask.target.id, ask.number)
            ask.answer(None, self._values.load_error(frame.type_name, frame.body, ask.target))

    def _broadcast(self, link: Link, frame: Frame) -> None:
        if not link.inbound.accept_broadcast(frame.seq):
            return
        try:
            value = self._values.load(frame.type_name, frame.body)
        except MessageRejected:
            link.counters.rejected += 1
            letter = {"wire_type": frame.type_name, "bytes": len(frame.body), "from": str(link.peer)}
            self._local.refuse(None, letter)
            return
        self._surroundings.deliver_broadcast(frame.target, value)


def _number(text: str) -> int:
    if not (text.isdecimal() and len(text) < 19):
        raise wire.MalformedFrame(f"target {text[:40]!r} is not a number")
    return int(text)


def _numbers(body: bytes) -> list[int]:
    return [_number(word) for word in body.decode("ascii", "replace").split()]


def deliver_to(local: LocalSystem, refs: list[ActorRef[Any, Any]], message: object) -> None:
    """Deliver a broadcast to actors of this node. With a full mailbox, it becomes a dead letter."""
    for ref in refs:
        try:
            if not local.offer(ref, Mail(message)):
                local.refuse(ref, message)
        except ActorStopped:
            continue  # it left its dead letter
