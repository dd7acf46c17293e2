"""Messages to actors of other nodes, and to the holders of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from papyra import AskTimeout
from papyra_contrib.cluster._errors import NOT_A_MEMBER, ActorStopped, NodeGone, NodeUnreachable
from papyra_contrib.cluster._remote.asks import PendingAsk
from papyra_contrib.cluster._wire import frames as wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra import ActorRef
    from papyra.cluster import LocalSystem
    from papyra_contrib.cluster._links.link import Link
    from papyra_contrib.cluster._membership import Membership
    from papyra_contrib.cluster._remote.refs import Target
    from papyra_contrib.cluster._session import Session
    from papyra_contrib.cluster._transport import NodeId

__all__ = ["Sending"]


class Sending:
    """Tells and asks. ``ref_to`` makes the reference to the holder of a name."""

    def __init__(
        self,
        membership: Membership,
        local: LocalSystem,
        ref_to: Callable[[NodeId, int], ActorRef[Any, Any]],
        ask_timeout: float,
        inject: Callable[[], str | None] | None,
    ) -> None:
        self._membership = membership
        self._local = local
        self._ref_to = ref_to
        self._ask_timeout = ask_timeout
        self._inject = inject
        self._names: dict[str, anyio.Event] = {}

    async def tell(self, target: Target, message: object) -> None:
        """Send a tell; see `RemoteRef.tell`."""
        session = self._session_for(target)
        type_name, body = session.values.dump(message)
        link = session.ready_link(target)
        if link is None:
            link = await session.link_to(target)
            await session.before_send(link, target)
        self._send(link, target, wire.TELL, type_name, body)

    async def ask(self, target: Target, message: object, timeout: float | None) -> Any:
        """Send an ask and return or raise the answer; see `RemoteRef.ask`."""
        session = self._session_for(target)
        type_name, body = session.values.dump(message)
        seconds = self._ask_timeout if timeout is None else timeout
        background = self._local.background
        pending = PendingAsk(target, background.waiter())
        corr = session.asks.add(pending)
        began = background.time()
        timer = background.after(seconds, lambda: pending.answer(None, AskTimeout(target, seconds)))
        try:
            link = session.ready_link(target)
            if link is None:
                with anyio.move_on_after(max(0.0, seconds - (background.time() - began))) as scope:
                    link = await session.link_to(target)
                    await session.before_send(link, target)
                if link is None or scope.cancelled_caught:
                    raise AskTimeout(target, seconds)
            pending.number = self._send(link, target, wire.ASK, type_name, body, corr)
            await pending.waiter
        finally:
            timer.cancel()
            session.asks.forget(corr)
        if pending.error is not None:
            try:
                raise pending.error
            finally:
                del pending  # the traceback refers to this frame: leave no cycle behind
        return pending.value

    def _send(self, link: Link, target: Target, kind: str, type_name: str, body: bytes, corr: int = 0) -> int:
        """Send a message that may go now; if it can't, the next sender that waits has its turn."""
        try:
            self._check(target)
            return link.out.numbered(kind, target.id, body, type_name, self._traceparent(), corr)
        except BaseException:
            link.out.not_sent(target.id)
            raise

    def _session_for(self, target: Target) -> Session:
        self._check(target)
        session = self._membership.session
        if session is None or not session.joined:
            raise NodeUnreachable(f"{target} can't be reached: {NOT_A_MEMBER}")
        return session

    def _check(self, target: Target) -> None:
        if target.peer in self._membership.ended:
            raise NodeGone(target)
        if target.ended is not None:
            raise ActorStopped(target)

    def _traceparent(self) -> str:
        return (self._inject() or "-") if self._inject is not None else "-"

    async def holder(self, name: str) -> ActorRef[Any, Any]:
        """Return the holder of a name; wait for one for at most two leases."""
        session = self._membership.session
        seconds = 2.0 * (session.transport.lease_seconds if session is not None else 3)
        deadline = anyio.current_time() + seconds
        while True:
            holder = self.holder_now(name)
            if holder is not None and holder.is_alive():
                return holder
            left = deadline - anyio.current_time()
            if left <= 0:
                raise NodeUnreachable(f"nobody had the name {name!r} for {seconds:g} s; try again later")
            changed = self._names.setdefault(name, anyio.Event())
            try:
                with anyio.move_on_after(left):
                    await changed.wait()
            finally:
                if self._names.get(name) is changed and not changed.statistics().tasks_waiting:
                    del self._names[name]  # nobody waits for it any more

    def holder_now(self, name: str) -> ActorRef[Any, Any] | None:
        """Return the holder of a name, if this node knows one now."""
        session = self._membership.session
        claim = session.replica.claim(name) if session is not None else None
        return self._ref_to(claim.holder, claim.actor_id) if claim is not None and claim.actor_id else None

    def name_changed(self, name: str) -> None:
        """Wake the callers that wait for a holder of the name."""
        event = self._names.pop(name, None)
        if event is not None:
            event.set()
