"""G1 and G7: a finalizer, which Python may run at any call, may send to an actor."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from papyra import Actor

from .support import go_round, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from papyra import ActorRef


class Counts(Actor):
    """Keeps its messages, and counts those that came while another one was handled."""

    def __init__(self, on_start: bool = False) -> None:
        self.got: list[Any] = []
        self.at_once = 0
        self.busy = False
        if on_start:
            self.on_start = go_round  # type: ignore[method-assign]  # one that awaits

    async def receive(self, message: Any) -> Any:
        if message == "count":
            return self.got, self.at_once
        self.at_once += self.busy
        self.busy = True
        await go_round(3)
        self.busy = False
        self.got.append(message)
        return message


class Pool(deque[Any]):
    """Mailboxes. The next call that takes one meets a finalizer."""

    finalizer: Callable[[], object] | None = None

    def pop(self) -> Any:  # type: ignore[override]  # it takes no index
        finalizer, self.finalizer = self.finalizer, None
        if finalizer is not None:
            finalizer()
        return super().pop() if self else deque()


async def tell(ref: ActorRef[Any, Any]) -> None:
    await ref.tell("sent")


async def tell_nowait(ref: ActorRef[Any, Any]) -> None:
    ref.tell_nowait("sent")


async def ask(ref: ActorRef[Any, Any]) -> None:
    assert await ref.ask("sent") == "sent"


async def unbecome(ref: ActorRef[Any, Any]) -> None:
    """Signal the actor that something other than a message is due."""
    ref._cell.actor.become(ref._cell.actor.receive)
    await ref.tell("sent")


@pytest.mark.parametrize("fresh", [None, False, True])
@pytest.mark.parametrize("send", [tell, tell_nowait, ask, unbecome])
async def test_g07_a_finalizer_that_tells_loses_nothing_and_starts_no_second_turn(
    send: Any, fresh: bool | None
) -> None:
    async with running() as system:
        ref: Any = system.spawn(Counts, bool(fresh))
        if fresh is None:
            assert await ref.ask("count") == ([], 0)
            await go_round()
        rt = ref._cell.rt
        rt.mailbox_pool = pool = Pool([deque() for _ in range(5)])
        pool.finalizer = lambda: ref.tell_nowait("finalized")
        if fresh is None:
            await send(ref)
        else:
            await go_round(2)  # its first turn may take a mailbox
            async with anyio.create_task_group() as group:
                group.start_soon(send, ref)
        for _ in range(3):
            await ref.tell("more")
        got, at_once = await ref.ask("count")
        assert at_once == 0
        assert sorted(got) == sorted(
            ["sent", "more", "more", "more"] + ["finalized"] * (pool.finalizer is None)
        )
        assert pool.finalizer is None or fresh is False, "it has run"
