"""The door of a cluster to the actors of its process: mailboxes, replies, notices and tasks of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from papyra import ActorRef, ActorStopped, ActorTerminated
from papyra._runtime.envelope import Envelope
from papyra.cluster import LocalSystem, Mail, check_callable, open_cluster
from papyra.exceptions import BackendURLError, PluginError

from .support import Gated, Runs, letters, running, same, wait_until

if TYPE_CHECKING:
    from papyra.address import ActorAddress


class OneNode:
    """A cluster whose only node is this one."""

    local: LocalSystem

    async def open(self, local: LocalSystem) -> None:
        self.local = local

    async def leave(self) -> None: ...

    async def close(self) -> None:
        self.local.background.close()

    def resolve(self, address: ActorAddress) -> ActorRef[Any, Any] | None:
        return None

    def watch(self, watcher: ActorRef[Any, Any], watched: object) -> bool:
        return False

    def unwatch(self, watcher: ActorRef[Any, Any], watched: object) -> bool:
        return False

    def panel(self) -> dict[str, Any]:
        return {}


async def test_a_reply_reaches_the_other_node_however_early_it_comes() -> None:
    """On trio, an actor may answer before the task that delivered the ask runs again."""
    node, replies = OneNode(), list[tuple[object, BaseException | None]]()

    def mail(message: str) -> Mail:
        return Mail(message, lambda value, error: replies.append((value, error)))

    async with running(cluster=node) as system:
        actor = Gated()
        ref = system.spawn(same, actor, mailbox_capacity=1)
        await ref.tell(0)
        await actor.busy.wait()
        await ref.tell(1)
        waits = mail("waits")
        assert not node.local.offer(ref, waits)
        async with anyio.create_task_group() as group:
            group.start_soon(node.local.deliver, ref, waits)
            await wait_until(lambda: ref._cell.senders)
            actor.gate.set()
        await wait_until(lambda: replies)
    early = mail("early")
    assert isinstance(early.item, Envelope)
    early.item.reply("before")
    assert len(replies) == 1
    early.delivered()
    assert replies == [("waits", None), ("before", None)]


async def test_a_reply_that_cannot_be_sent_is_logged_and_the_actor_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(_value: object, _error: BaseException | None) -> None:
        raise OSError("no way")

    node = OneNode()
    async with running(cluster=node) as system:
        ref = system.spawn(Runs)
        assert node.local.offer(ref, Mail("first", refuse))
        assert await ref.ask("second") == "second"
    assert "sending a reply to another node raised" in caplog.text
    assert "no way" in caplog.text


async def test_mail_for_an_actor_that_stops_is_one_dead_letter() -> None:
    node = OneNode()
    async with running(cluster=node) as system:
        ref = system.spawn(Runs)
        await ref.stop()
        with pytest.raises(ActorStopped):
            node.local.offer(ref, Mail("late"))
        assert letters(system) == [("late", False)]


async def test_the_notice_of_an_end_is_taken_out_of_a_mailbox_alone() -> None:
    node, actor = OneNode(), Gated()
    async with running(cluster=node) as system:
        one, other = system.spawn(Runs), system.spawn(Runs)
        ref = system.spawn(same, actor)
        await ref.tell(0)
        await actor.busy.wait()
        node.local.tell_terminated(ref, one, "gone")
        await ref.tell(1)
        node.local.tell_terminated(ref, other, "gone")
        node.local.remove_terminated(ref, one)
        actor.gate.set()
        await ref.ask(2)
    assert actor.got == [0, 1, ActorTerminated(other, "gone"), 2]


async def test_an_error_of_a_clusters_own_task_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise OSError("no way")

    node = OneNode()
    async with running(cluster=node) as system:
        node.local.background.spawn(fail, "failing")
        await wait_until(lambda: "no way" in caplog.text)
        assert await system.spawn(Runs).ask(1) == 1
    assert "a background task of the cluster raised" in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_clusters_task_that_is_cancelled_from_outside_begins_again(anyio_backend: str) -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        task = asyncio.current_task()
        if task is not None and begun == 1:
            task.cancel()
            await anyio.sleep_forever()

    node = OneNode()
    async with running(cluster=node):
        node.local.background.spawn(work, "cancelled")
        await wait_until(lambda: begun == 2)


def test_what_is_not_the_url_of_a_cluster_is_refused() -> None:
    with pytest.raises(BackendURLError, match=r"it has no scheme; write 'scheme:...'"):
        open_cluster("shop")
    with pytest.raises(PluginError, match="'no function' is not callable"):
        check_callable("no function")
