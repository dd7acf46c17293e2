"""Promises 2, 3, 9, 10 and 12 with servers that go away, in long runs."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import time

import nats
import pytest
from _processes import free_port

TELLS = 100_000


@pytest.mark.sweep
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_c09_server_away_for_ten_seconds(world, backend):
    server = world.server()
    server.start()
    nodes = a, b, _ = world.nodes("abc", server.url("shop"), backend)
    address = a.do("counter")
    assert a.do("claim", name="boss")[0] == "fence"
    before = set(b.until("members", lambda members: len(members) == 3))
    server.kill()
    for node in nodes:
        node.wait_for("NodeDown", node=node.name, reason="lost")
        assert node.do("local") == 0
    time.sleep(7)
    server.start()
    began = time.time()
    for node in nodes:
        members = node.until("members", lambda members: len(members) == 3)
        assert not before & set(members)  # no ended incarnation comes back, whatever the server has kept
    print(f"all members again after {time.time() - began:.2f} s")
    assert time.time() - began < 3.0
    found = b.until("find", lambda found: len(found) == 1)
    assert found != [address]
    assert b.until("ask", lambda reply: reply[0] == "reply", address=found[0])
    assert b.until("lookup", lambda holder: holder is not None, name="boss").startswith("a@")


@pytest.mark.sweep
def test_c02_100_000_tells_over_three_restarts(world):
    server = world.server()
    server.start()
    a, b, _ = world.nodes("abc", server.url("shop"))
    address = a.do("recorder", capacity=100_000)
    # All at once they would be sent within a second, before the first restart.
    sending = [
        b.send("tells", address=address, count=TELLS // 4, first=n * TELLS // 4, rest=0.05) for n in range(4)
    ]
    for restart in range(1, 4):
        # Each restart is amid the tells, and for the last one the server is killed.
        a.until("seen", lambda seen, part=restart * TELLS // 5: seen[0] >= part)
        assert not b.has_reply(*sending)
        server.kill(signal.SIGKILL if restart == 3 else signal.SIGTERM)
        time.sleep(0.3)
        server.start()
    results = [b.reply(number, 170) for number in sending]
    sent = sum(result["sent"] for result in results)
    assert sent == TELLS

    def quiet(panel):
        (peer,) = [counts for peer, counts in panel["peers"].items() if peer.startswith("a@")]
        return peer["outstanding"] == 0

    panel = b.until("panel", quiet)
    handled, twice, late = a.do("seen", block=TELLS // 4)
    (lost,) = [counts["lost"] for peer, counts in a.do("panel")["peers"].items() if peer.startswith("b@")]
    letters = a.do("letters")
    print(f"{sent} sent, {handled} handled, {lost} lost and counted, {letters} dead letters")
    assert panel["reconnects"] == 3
    assert sent == handled + lost + letters
    assert (twice, late) == (0, 0)
    assert lost < sent / 10
    assert not any(node.has("NodeDown") for node in (a, b))


async def leader_of(stream: str, port: int) -> int:
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    reply = await client.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout=5)
    await client.close()
    return int(json.loads(reply.data)["cluster"]["leader"].removeprefix("s"))


@pytest.mark.sweep
def test_c10_the_leader_of_three_servers_is_killed(world):
    servers = [world.server(name=f"s{n}") for n in range(3)]
    routes = [free_port() for _ in servers]
    for index, server in enumerate(servers):
        others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        server.config = f"server_name: s{index}\ncluster {{ name: c, listen: 127.0.0.1:{routes[index]}, routes: [{others}] }}\n"
        server.start()
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    time.sleep(3)
    nodes = [world.node(name, f"nats://{hosts}/shop?replicas=3", join_timeout=60.0) for name in "abc"]
    for node in nodes:
        node.wait_for("ready", 120)
        node.until("members", lambda members: len(members) == 3)
    a, b, _ = nodes
    address = a.do("counter")
    b.until("find", lambda found: found == [address])
    asking = b.send("asks", address=address, seconds=8.0)
    time.sleep(1)
    leader = asyncio.run(leader_of("KV_papyra_shop", servers[0].port))
    servers.pop(leader).kill()
    asked = b.reply(asking)
    print(f"asks {asked['ends']}, longest gap {asked['longest']:.2f} s after the leader s{leader} was killed")
    assert asked["ends"].get("reply", 0) > 100
    assert not any(node.has("NodeDown") for node in nodes)
    assert a.do("claim", name="later")[0] == "fence"
    began = time.time()
    servers[0].kill()  # one of three is left
    for node in nodes:
        node.wait_for("NodeDown", node=node.name, reason="lost", since=began)


@pytest.mark.sweep
def test_c12_fences_grow_over_the_loss_of_the_bucket(world):
    server = world.server()
    server.start()
    (a,) = world.nodes("a", server.url("shop"))
    a.do("singleton", name="sole")
    first = a.wait_for("sole")
    server.kill()
    shutil.rmtree(server.folder / "store")
    a.wait_for("NodeDown", node="a", reason="lost")
    server.start()
    second = a.wait_for("sole", since=first["at"] + 0.001)
    assert second["fence"] > first["fence"]


@pytest.mark.sweep
def test_c03_a_million_tells_to_a_slow_actor_take_no_memory(world, nats_server):
    a, b = world.nodes("ab", nats_server.url("slow"))
    address = a.do("slow")
    b.do("flood", address=address, count=20_000)
    before = [node.do("rss") for node in (a, b)]
    assert b.do("flood", 170, address=address, count=1_000_000) == 1_000_000
    more = [node.do("rss") - was for node, was in zip((a, b), before, strict=True)]
    print(f"bytes more: {more}")
    assert max(more) < 10_000_000
    assert a.do("letters") == 0
