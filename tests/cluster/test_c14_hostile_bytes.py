"""Promise 14: no bytes of a peer raise out of the receiver, load code, or cost more than their size."""

from __future__ import annotations

import sys

import pytest
from _world import COUNTER, Add, Counter, Recorder, remote, seeded, systems, until
from hypothesis import given, settings
from hypothesis import strategies as st

from papyra.testing import run_seeded
from papyra_contrib.cluster import Ended, Entry, MessageRejected, NodeId
from papyra_contrib.cluster._links.early_frames import MAX_BYTES, MAX_MESSAGES, MAX_PEERS
from papyra_contrib.cluster._links.inbound import MAX_PARKED_MESSAGES
from papyra_contrib.cluster._registry.members import member_value
from papyra_contrib.cluster._wire import frames as wire
from papyra_contrib.cluster.testing import MemoryNetwork

words = st.sampled_from(
    ["0", "1", "2", "7", "-", "!ref", "test.Add", "os.system", "this.s", "99999999999999999999", "x.y"]
)
headers = st.builds(
    lambda kind, *rest: " ".join(["1", kind, *rest]).encode() + b"\n",
    st.sampled_from("TAREBCPWUXZ"),
    words, words, words, words, words, words,
)  # fmt: skip
messages = st.lists(st.one_of(headers, st.binary(max_size=40)), max_size=6).map(b"".join)


@settings(max_examples=30)
@given(st.lists(messages, max_size=12))
def test_c14_no_bytes_raise_out_of_the_receiver(found):
    async def main() -> None:
        async with systems(MemoryNetwork(1), "a", "b") as (a, b):
            counter = a.spawn(Counter, name="counter")
            ref = await remote(b, counter, a)
            session = a.cluster._session
            peer = b.cluster._session.me
            for message in found:
                session.on_frame(peer, message)
            session.links.pop(peer, None)  # the numbers of the link were anybody's
            assert not session.closed
            assert ref.is_alive()
            assert "this" not in sys.modules  # no name of the wire is imported

    run_seeded(1, main)


@given(
    st.sampled_from("TAREBCPWUX"),
    st.integers(0, 10**18),
    st.binary(max_size=200),
    st.integers(0, 10**18),
    st.integers(0, 10**18),
    st.booleans(),
)
def test_c14_a_frame_comes_back_as_it_was(kind, target, body, corr, seq, bang):
    frame = wire.encode(kind, target, body, corr=corr, seq=seq, wants_credit=bang, type_name="a.B")
    assert (
        list(wire.parse(frame + frame))
        == [wire.Frame(kind, str(target), corr, seq, bang, "a.B", "-", body)] * 2
    )


@given(st.binary(max_size=300))
def test_c14_parse_raises_only_malformed(message):
    try:
        frames = list(wire.parse(message))
    except wire.MalformedFrame:
        return
    assert sum(len(frame.body) for frame in frames) <= len(message)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"1e999", b"{", b""])
def test_c14_a_bad_body_is_a_dead_letter_and_a_rejected_ask(body):
    async def main() -> None:
        async with systems(MemoryNetwork(1), "a", "b") as (a, b):
            ref = await remote(b, a.spawn(Counter), a)
            values = b.cluster._session.values
            values.dump = lambda value: ("-", body)
            with pytest.raises(MessageRejected) as rejected:
                await ref.ask("get")
            assert rejected.value.code == "invalid"
            await ref.tell("get")
            values.dump = lambda value: ("no.such.Name", b"{}")
            with pytest.raises(MessageRejected) as rejected:
                await ref.ask("get")
            assert rejected.value.code == "unknown_type"
            letter = a.dead_letters.messages[0].message
            assert letter == {"wire_type": "-", "bytes": len(body), "from": str(b.cluster._session.me)}
            assert a.dead_letters.count == 3
            del values.dump
            assert await ref.ask("get") == 0

    run_seeded(1, main)


def test_c14_an_actor_that_was_never_exported_is_not_reached():
    async def main() -> None:
        async with systems(MemoryNetwork(1), "a", "b") as (a, b):
            shown, hidden = a.spawn(Counter), a.spawn(Counter)
            address = a.cluster.address(shown)
            await remote(b, shown, a)
            ref = b.ref_for(f"{address.system}:{hidden.address.actor_id}")
            with pytest.raises(MessageRejected) as rejected:
                await ref.ask("get")
            assert rejected.value.code == "not_exported"
            assert a.actor_info(hidden).processed == 0

    run_seeded(1, main)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (b"1 Z 1 0 1 - - 0\n", "no frame at byte 0 of 16"),
        (b"1 T 1 0 1 - - 9\nx", "a body of 9 bytes at byte 16 of 17"),
        (b"1 C counter 0 1 - - 0\n", "target 'counter' is not a number"),
        (b"1 W 0 0 0 - - 3\n1 x", "target 'x' is not a number"),
    ],
)
@seeded(1)
async def test_c14_a_malformed_message_is_dropped_counted_and_named(message, problem, caplog):
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        peer = b.cluster._session.me
        a.cluster._session.on_frame(peer, message)
        assert f"dropped a malformed message of {peer}: {problem}" in caplog.text
        assert _counts(a)["rejected"] == 1
        assert await ref.ask("get") == 0


@seeded(1)
async def test_c14_a_fault_of_this_node_while_it_handles_a_message_is_logged_and_the_link_continues(caplog):
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        session, peer = a.cluster._session, b.cluster._session.me

        def fails(*_: object) -> None:
            raise OSError("out of luck")

        session.exports.unwatch = fails
        session.on_frame(peer, wire.encode(wire.UNWATCH, 0, b"1"))
        assert f"handling a message of {peer} raised" in caplog.text
        assert "out of luck" in caplog.text
        assert _counts(a)["rejected"] == 1
        assert await ref.ask("get") == 0
        del session.exports.unwatch


@seeded(1)
async def test_c14_a_number_that_no_actor_ever_had_is_not_reached():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        with pytest.raises(MessageRejected, match="there is no actor 999") as rejected:
            await b.ref_for(f"{ref.address.system}:999").ask("get")
        assert rejected.value.code == "not_exported"


@seeded(1)
async def test_c14_a_reply_that_the_asker_cannot_read_is_rejected_there():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        a.cluster._session.values.dump = lambda value: ("no.such.Name", b"{}")
        with pytest.raises(MessageRejected, match=r"'no.such.Name' is not known here") as rejected:
            await ref.ask("get")
        assert rejected.value.code == "unknown_type"


@seeded(1)
async def test_c14_a_message_above_the_limit_of_its_receiver_is_rejected_there():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        a.cluster._session.values.max_bytes = 1000
        with pytest.raises(MessageRejected, match="bytes, but at most 1000 are allowed") as rejected:
            await ref.ask("x" * 2000)
        assert rejected.value.code == "too_large"


@seeded(1)
async def test_c14_a_broadcast_with_a_bad_body_is_one_dead_letter():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        await a.cluster.register(COUNTER, counter := a.spawn(Counter))
        await until(lambda: len(a.cluster.members()) == 2)
        peer = b.cluster._session.me
        a.cluster._session.on_frame(
            peer, wire.encode(wire.BROADCAST, "counter", b"{", seq=1, type_name="test.Add")
        )
        (letter,) = a.dead_letters.messages
        assert letter.message == {"wire_type": "test.Add", "bytes": 1, "from": str(peer)}
        assert _counts(a)["rejected"] == 1
        assert a.actor_info(counter).processed == 0


@seeded(1)
async def test_c14_a_peer_that_ignores_the_windows_parks_no_more_than_the_bound():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        seen: list[object] = []
        recorder = a.spawn(lambda: Recorder(seen, 0.001), mailbox_capacity=1)
        await remote(b, recorder, a)
        session, peer = a.cluster._session, b.cluster._session.me
        answers: list[bytes] = []
        session.transport.send = lambda peer, frame, *, ask=0: answers.append(frame)
        number = recorder.address.actor_id
        frames = [
            wire.encode(wire.ASK, number, b"1", seq=seq, corr=seq, type_name="-")
            for seq in range(1, MAX_PARKED_MESSAGES + 4)  # one in the mailbox, and two too many
        ]
        session.on_frame(peer, b"".join(frames))
        assert (_counts(a)["parked"], _counts(a)["rejected"]) == (MAX_PARKED_MESSAGES, 2)
        assert a.dead_letters.count == 2
        errors = [frame for message in answers for frame in wire.parse(message)]
        assert [(frame.kind, frame.type_name) for frame in errors] == [(wire.ERROR, "!overload")] * 2
        assert [frame.corr for frame in errors] == [MAX_PARKED_MESSAGES + 2, MAX_PARKED_MESSAGES + 3]
        await until(lambda: len(seen) == MAX_PARKED_MESSAGES + 1)


@seeded(1)
async def test_c14_messages_that_overtake_the_registry_wait_for_their_node():
    async with systems(MemoryNetwork(1), "a") as (a,):
        counter = a.spawn(Counter)
        number = a.cluster.address(counter).actor_id
        session, early = a.cluster._session, NodeId("early", "0" * 12)
        frames = [wire.encode(wire.TELL, number, b'{"by":2}', seq=n, type_name="test.Add") for n in (1, 2)]
        session.on_frame(early, frames[0])
        session.on_frame(early, frames[1])
        assert await counter.ask("get") == 0
        session.on_change(Entry("n.early", member_value(early, 1.0, "host", 1, "1"), 1000))
        assert await counter.ask("get") == 4
        session.on_change(Ended("n.early", "expired", 1001))
        session.on_frame(early, frames[1])
        assert a.control_panel()["cluster"]["late"] == 1
        assert await counter.ask(Add(0)) == 4


@seeded(1)
async def test_c14_messages_of_nodes_that_nobody_knows_are_bounded_and_dropped_after_a_second():
    async with systems(MemoryNetwork(1), "a") as (a,):
        session = a.cluster._session

        def late() -> int:
            return a.control_panel()["cluster"]["late"]

        for _ in range(MAX_MESSAGES + 1):
            session.on_frame(NodeId("0", "0" * 12), b"x")
        assert late() == 1
        session.on_frame(NodeId("1", "0" * 12), bytes(MAX_BYTES))
        assert late() == 2
        for number in range(2, MAX_PEERS + 1):
            session.on_frame(NodeId(str(number), "0" * 12), b"x")
        assert late() == 3
        await until(lambda: late() == 3 + MAX_MESSAGES + MAX_PEERS - 2)
        session.on_frame(NodeId("1", "0" * 12), bytes(MAX_BYTES))  # there is room again
        assert late() == 3 + MAX_MESSAGES + MAX_PEERS - 2


def _counts(system) -> dict[str, int]:
    (counts,) = system.control_panel()["cluster"]["peers"].values()
    return counts
