"""Section 2: the receptionist of a cluster, traces, wire versions, and references that come home."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from contextlib import contextmanager
from unittest.mock import ANY

import anyio
import pytest
from _world import COUNTER, Add, Counter, Number, Watcher, remote, seeded, systems, until

from papyra import Actor, ActorStopped, ActorSystem
from papyra.exceptions import PapyraError
from papyra_contrib.admin._protocol import encode
from papyra_contrib.admin._views import Views
from papyra_contrib.cluster import (
    Cluster,
    ClusterUnavailable,
    Listing,
    MessageRejected,
    NodeUnreachable,
    ServiceKey,
)
from papyra_contrib.cluster.testing import MemoryNetwork
from papyra_contrib.receptionist import Receptionist


@seeded(1)
async def test_the_receptionist_of_a_clustered_system_is_its_cluster():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        assert Receptionist.of(a) is a.cluster
        seen: list[Listing] = []

        class Subscriber(Actor):
            async def receive(self, message) -> None:
                seen.append(message)

        await Receptionist.of(b).subscribe(COUNTER, b.spawn(Subscriber))
        await until(lambda: len(seen) == 1)
        counter = a.spawn(Counter)
        await Receptionist.of(a).register(COUNTER, counter)
        await until(lambda: len(seen) == 2)
        assert [ref.address for ref in seen[1].added] == [a.cluster.address(counter)]
        await Receptionist.of(a).withdraw(COUNTER, counter)
        await until(lambda: len(seen) == 3)
        assert seen[2].refs == ()
        assert await counter.ask("get") == 0


@seeded(1)
async def test_a_reference_that_comes_home_is_local_and_replies_travel():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        numbers: list[Number] = []

        class Sink(Actor):
            async def receive(self, message) -> None:
                numbers.append(message)

        await ref.tell(Add(5, reply_to=b.spawn(Sink)))
        await until(lambda: numbers == [Number(5)])
        home = a.ref_for(ref.address)
        assert home == a.refs()[0]
        assert type(home).__name__ == "ActorRef"
        assert ref != home


@seeded(1)
async def test_a_reference_to_an_older_incarnation_of_this_node_is_gone():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b", "c") as (a, _b, _c):
        counter = a.spawn(Counter)
        old = a.cluster.address(counter)
        network.partition({"a"}, {"b", "c"})
        await until(lambda: not a.cluster._session.joined)
        network.heal()
        await until(lambda: a.cluster._session.joined)
        ref = a.ref_for(old)
        with pytest.raises(ActorStopped):
            await ref.ask("get")
        watcher = Watcher()
        await a.spawn(watcher.actor).ask(ref)
        await until(lambda: watcher.reasons == ["node_down"])
        assert await a.ref_for(a.cluster.address(counter)).ask("get") == 0


@seeded(1)
async def test_a_traceparent_travels_and_the_message_is_received_inside():
    entered: list[str] = []

    @contextmanager
    def extract(traceparent: str):
        entered.append(traceparent)
        yield
        entered.append("left")

    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    network = MemoryNetwork(1)
    async with systems(network, "a", "b", trace=(lambda: parent, extract)) as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        await ref.tell(Add(2))
        assert await ref.ask("get") == 2
        assert entered == [parent, "left"] * 2


@seeded(1)
async def test_no_common_wire_version_is_unreachable_and_says_both():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        ref = await remote(b, a.spawn(Counter), a)
        b.cluster._session.replica.wire["a"] = (2, 3)
        with pytest.raises(NodeUnreachable, match=r"2 to 3.*1 to 1"):
            await ref.tell("get")


@seeded(1)
async def test_a_late_bound_reference_waits_two_leases_and_is_not_watched():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        role = b.cluster.role(ServiceKey("later"))
        began = anyio.current_time()
        with pytest.raises(NodeUnreachable, match="later"):
            await role.ask("get")
        assert 5.9 < anyio.current_time() - began < 6.5

        class Watching(Actor):
            async def receive(self, message) -> None:
                self.context.watch(message)

        with pytest.raises(ValueError, match="can't be watched"):
            await b.spawn(Watching).ask(role)
        await a.cluster.claim("later", a.spawn(Counter))
        assert await role.ask("get") == 0
        assert role.is_alive()


@seeded(1)
async def test_members_in_the_control_panel_the_admin_socket_and_the_facts():
    network = MemoryNetwork(1)
    async with ActorSystem() as alone:
        assert "cluster" not in alone.control_panel()
        assert "cluster" not in Views(alone, actions=False, payloads=False).operations
    async with systems(network, "a") as (a,):
        async with systems(network, "b") as (b,):
            ref = await remote(a, b.spawn(Counter), b)
            assert await ref.ask("get") == 0
            panel = a.control_panel()["cluster"]
            assert [one["node"] for one in panel["members"]] == ["a", "b"]
            assert panel["members"][1]["incarnation"] == b.cluster.me.incarnation
            assert set(panel["members"][0]) == {"node", "incarnation", "since", "host", "pid", "version"}
            assert 0 < panel["lease_seconds_left"] <= 3
            assert panel["reconnects"] == 0
            (counts,) = panel["peers"].values()
            wanted = {"outstanding", "parked", "lost", "unknown", "duplicate", "rejected", "late"}
            assert wanted - {"late"} <= set(counts)
            assert panel["late"] == 0
            shown = await Views(a, actions=False, payloads=False).operations["cluster"]({})
            assert json.loads(encode(shown))["members"] == panel["members"]
            gone = str(b.cluster.me.incarnation)
        await until(lambda: len(a.cluster.members()) == 1)
        facts = [e for e in a.events() if type(e).__name__ in ("NodeUp", "NodeDown")]
        assert [(type(e).__name__, e.payload["node"]) for e in facts] == [
            ("NodeUp", "a"),
            ("NodeUp", "b"),
            ("NodeDown", "b"),
        ]
        assert facts[2].payload == {"node": "b", "incarnation": gone, "reason": "left"}
        assert facts[0].address == {"system": "a", "actor_id": 0}


def test_without_a_cluster_nothing_is_imported_and_no_thread_starts():
    code = """
import sys, threading, anyio
from papyra import Actor, ActorSystem

class Echo(Actor):
    async def receive(self, message):
        return message

async def main():
    async with ActorSystem() as system:
        assert await system.spawn(Echo).ask(1) == 1
        print([t.name for t in threading.enumerate() if t.name.startswith("papyra keeper")])
        print([m for m in sys.modules if m.startswith(("papyra_contrib", "papyra.cluster", "nats", "msgspec"))])

anyio.run(main)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n[]\n"


@pytest.mark.parametrize(
    "options",
    [{"lease": 1}, {"lease": 121}, {"lease": 2.5}, {"ask_timeout": 0}, {"stall": -1}, {"max_message": 0}],
)
def test_bad_options_are_value_errors(options):
    with pytest.raises(ValueError, match="must be"):
        Cluster("memory:shop", **options)


class Echo(Actor):
    async def receive(self, message):
        return message


@seeded(1)
async def test_a_reference_by_a_name_is_a_value_and_travels():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        role = b.cluster.role(ServiceKey("boss"))
        assert repr(role) == "<LateRef 'boss'>"
        assert len({role, b.cluster.role(ServiceKey("boss")), b.cluster.role(ServiceKey("other"))}) == 2
        assert role not in (a.spawn(Counter), "boss")
        assert role == ANY
        with pytest.raises(LookupError, match="no holder of the name 'boss' is known now"):
            _ = role.address
        with pytest.raises(TypeError, match="belongs to a running system and can't be pickled"):
            pickle.dumps(role)
        counter = a.spawn(Counter)
        await a.cluster.claim("boss", counter)
        await role.tell(Add(2))
        assert role.address == a.cluster.address(counter)
        echo = await remote(b, a.spawn(Echo), a)
        assert echo != "echo"
        assert echo == ANY
        assert await echo.ask(role) == role
        assert await echo.ask(echo) == echo
        assert await role.ask("get") == 2


@seeded(1)
async def test_a_text_that_is_not_an_address_of_a_cluster_is_not_a_reference():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b):
        assert b.ref_for("alone:1") is None
        ref = await remote(b, a.spawn(Counter), a)
        b.cluster._session.values.dump = lambda value: ("!ref", b"alone:1")
        with pytest.raises(MessageRejected, match="'alone:1' is not an address of a cluster") as rejected:
            await ref.ask("get")
        assert rejected.value.code == "invalid"


@seeded(1)
async def test_what_belongs_to_another_node_is_not_registered_named_or_watched():
    async with systems(MemoryNetwork(1), "a", "b") as (a, b), ActorSystem(system_id="alone") as alone:
        ref = await remote(b, a.spawn(Counter), a)
        for call in (
            lambda: b.cluster.register(COUNTER, ref),
            lambda: b.cluster.claim("boss", ref),
        ):
            with pytest.raises(ValueError, match="only its own node can register or name it"):
                await call()
        for name in ("", "x" * 129):
            with pytest.raises(ValueError, match="a name must have 1 to 128 characters"):
                await a.cluster.claim(name, a.refs()[0])
        inner = Watcher().actor()
        b.spawn(lambda: inner)
        stranger = alone.spawn(Counter)
        with pytest.raises(ValueError, match="belongs to a different actor system"):
            inner.context.watch(stranger)


@seeded(1)
async def test_a_service_of_an_actor_that_has_stopped_is_not_offered():
    async with systems(MemoryNetwork(1), "a") as (a,):
        counter = a.spawn(Counter)
        await a.stop(counter)
        with pytest.raises(ActorStopped):
            await a.cluster.register(COUNTER, counter)
        assert a.cluster.find(COUNTER) == ()


@seeded(1)
async def test_before_the_first_join_and_after_the_end_a_cluster_says_that_it_has_not_joined():
    network = MemoryNetwork(1)
    cluster = network.cluster()
    text = "can't say who this node is: this node has not joined the cluster, or has left it"
    with pytest.raises(ClusterUnavailable, match=text):
        _ = cluster.me
    assert (cluster.members(), cluster.find(COUNTER), cluster.lookup("boss")) == ((), (), None)
    async with ActorSystem(system_id="a", cluster=cluster) as a:
        assert cluster.me.node == "a"
        second = ActorSystem(system_id="b", cluster=cluster)
        with pytest.raises(RuntimeError, match="serves one ActorSystem, once; make a new one"):
            await second.start()
        await second.aclose()
        counter = a.spawn(Counter)
    with pytest.raises(ClusterUnavailable, match=text):
        _ = cluster.me
    with pytest.raises(ClusterUnavailable, match="can't claim a name"):
        await cluster.claim("boss", counter)


@seeded(1)
async def test_me_is_none_while_the_node_is_not_a_member():
    network = MemoryNetwork(1)
    async with systems(network, "a", "b", "c") as (a, *_):
        network.partition({"a"}, {"b", "c"})
        await until(lambda: not a.cluster._session.joined)
        with pytest.raises(ClusterUnavailable, match="not a member of the cluster now; it rejoins"):
            await until(lambda: a.cluster.me is None)
        network.heal()
        await until(lambda: a.cluster._session.joined)
        assert a.cluster.me.node == "a"


async def test_the_first_node_of_a_memory_cluster_decides_its_lease():
    async with ActorSystem(system_id="a", cluster=Cluster("memory:leased", lease=5)) as a:
        assert a.cluster._session.lease.ttl == 5
        async with ActorSystem(system_id="b", cluster="memory:leased") as b:
            assert b.cluster._session.lease.ttl == 5
        with pytest.raises(ValueError, match="lease is 4 s here, and 5 s in the cluster"):
            Cluster("memory:leased", lease=4)


PLUGINS = """
from papyra_contrib.cluster import MemoryTransport, Transport
from papyra_contrib.cluster.codec import Codec, MsgspecCodec

class Plain(MemoryTransport):
    configure = Transport.configure  # it has no options

class Loud(MsgspecCodec):
    pass

class NoTransport:
    pass
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Install a distribution with engines and codecs in this process."""
    (tmp_path / "cluster_plugins.py").write_text(PLUGINS)
    info = tmp_path / "cluster_plugins-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cluster-plugins\nVersion: 1\n")
    groups = {
        "transports": "plain = :Plain\nwrong = :NoTransport",
        "codecs": "loud = :Loud\nwrong = :NoTransport",
    }
    points = "\n".join(f"[papyra.{group}]\n{lines}" for group, lines in groups.items())
    (info / "entry_points.txt").write_text(points.replace(":", "cluster_plugins:"))
    monkeypatch.delenv("PAPYRA_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("cluster_plugins", None)


@pytest.mark.usefixtures("plugins")
async def test_an_engine_and_a_codec_of_another_distribution_are_used():
    async with (
        ActorSystem(system_id="a", cluster=Cluster("plain:shop", codec="loud", lease=4)) as a,
        ActorSystem(system_id="b", cluster=Cluster("plain:shop", codec="loud")) as b,
    ):
        assert type(a.cluster._session.transport).__name__ == "Plain"
        assert type(a.cluster._codec).__name__ == "Loud"
        with anyio.fail_after(60):
            await a.cluster._session.transport.room()  # its outbox has no bound
        ref = await remote(b, a.spawn(Counter), a)
        assert await ref.ask(Add(2)) == 2


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("url", "codec", "text"),
    [
        ("shop", "msgspec", "not a cluster URL: it has no scheme"),
        ("memory:a/b", "msgspec", "'memory:a/b' names no cluster"),
        ("nope:shop", "msgspec", "no cluster for the scheme 'nope'"),
        ("wrong:shop", "msgspec", "is not a subclass of papyra_contrib.cluster.Transport"),
        ("memory:shop", "nope", "no codec 'nope'; installed are loud, msgspec, wrong"),
        ("memory:shop", "wrong", "is not a papyra_contrib.cluster.codec.Codec"),
    ],
)
def test_an_engine_or_codec_that_cannot_be_used_is_named(url, codec, text):
    with pytest.raises((ValueError, PapyraError), match=text):
        Cluster(url, codec=codec)
