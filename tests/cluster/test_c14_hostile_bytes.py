"""Promise 14: no bytes of a peer raise out of the receiver, load code, or cost more than their size."""

from __future__ import annotations

import sys

import pytest
from _world import Counter, remote, systems
from hypothesis import given, settings
from hypothesis import strategies as st

from papyra.testing import run_seeded
from papyra_contrib.cluster import MessageRejected
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
