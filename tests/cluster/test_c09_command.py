"""``papyra cluster``: it joins nothing, and exits with 3 if no server answers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from types import SimpleNamespace

import anyio
import pytest
from _world import Counter, seeded, until
from click.testing import CliRunner

from papyra import ActorSystem
from papyra_contrib.cluster import _registry_view
from papyra_contrib.cluster._command import _follow, cluster
from papyra_contrib.cluster._memory_hub import HUBS


def run(*arguments: str):
    return CliRunner().invoke(cluster, [*arguments])


def test_nodes_names_and_services(world, nats_server):
    url = nats_server.url("command")
    (node,) = world.nodes("a", url)
    address = node.do("counter")
    fence = node.do("claim", name="the\tboss")[1]
    nodes = run("nodes", "--cluster", url, "-o", "plain")
    (line,) = [one for one in nodes.output.splitlines() if one.startswith("node\t")]
    assert line.split("\t")[1] == "a"
    assert line.split("\t")[2] == address.partition("@")[2].partition(":")[0]
    (name,) = json.loads(run("names", "--cluster", url, "-o", "json").output)
    assert name["name"] == "the\tboss"
    assert name["fence"] == fence
    services = run("services", "--cluster", url, "-o", "plain").output
    assert f"service\tcounter\t{address}" in services
    (service,) = json.loads(run("services", "--cluster", url, "-o", "json").output)
    assert service == {"key": "counter", "address": address}
    (row,) = json.loads(run("nodes", "--cluster", url, "-o", "json").output)
    assert set(row) == {"name", "incarnation", "since", "host", "pid", "version"}
    assert row["pid"] == str(node.process.pid)
    assert node.do("members") == [address.partition(":")[0]]  # it has joined nothing


def test_what_the_registry_says_is_escaped(world, nats_server):
    url = nats_server.url("escaped")
    (node,) = world.nodes("a", url)
    node.do("claim", name="red \x1b[31m \u202e boss")
    for output in ("plain", "table"):
        shown = run("names", "--cluster", url, "-o", output).output
        assert "boss" in shown
        assert not {"\x1b", "\u202e"} & set(shown)


def test_follow_prints_what_is_new(world, nats_server):
    url = nats_server.url("follow")
    a = world.node("a", url)
    a.wait_for("ready")
    command = [sys.executable, "-m", "papyra_cli", "cluster", "nodes", "--follow", "-o", "plain"]
    with subprocess.Popen([*command, "--cluster", url], stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stdout.readline().split("\t")[:2] == ["node", "a"]
        world.node("b", url).wait_for("ready")
        assert following.stdout.readline().split("\t")[:2] == ["node", "b"]
        following.terminate()


@pytest.mark.parametrize("command", ["nodes", "names", "services", "init"])
def test_no_server(command, monkeypatch):
    from _processes import free_port

    monkeypatch.setattr("papyra_contrib.cluster._registry_view.OPEN_SECONDS", 0.3)

    done = run(command, "--cluster", f"nats://127.0.0.1:{(port := free_port())}/shop")
    assert done.exit_code == 3
    assert f"runs at 127.0.0.1:{port}\n" in done.output  # uvloop's own error does not say it


def test_an_attempt_to_connect_whose_cancellation_is_lost_is_cancelled_again(monkeypatch):
    """As `asyncio.wait_for` on Python 3.11 loses one that comes together with a refused connection."""
    lost = []

    async def connect(*_):
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append(True)

    monkeypatch.setattr("papyra_contrib.cluster._registry_view.OPEN_SECONDS", 0.1)
    monkeypatch.setattr("papyra_contrib.cluster.nats._keeper.connect", connect)
    assert run("nodes", "--cluster", "nats://127.0.0.1:4222/shop").exit_code == 3
    assert lost


def test_no_url_and_a_malformed_one(monkeypatch):
    monkeypatch.delenv("PAPYRA_CLUSTER", raising=False)
    assert run("nodes").exit_code == 2
    assert run("nodes", "--cluster", "nats://x").exit_code == 2


def test_init_makes_the_registry_once(nats_server):
    url = nats_server.url("made", options="?lease=7")
    for _ in range(2):
        done = run("init", "--cluster", url, "-o", "json")
        assert (done.exit_code, json.loads(done.output)) == (0, {"state": "ready"})


def test_init_says_what_differs(nats_server):
    assert run("init", "--cluster", nats_server.url("four", options="?lease=4")).exit_code == 0
    again = run("init", "--cluster", nats_server.url("four", options="?lease=5"))
    assert again.exit_code == 1
    assert "5 s here, and 4 s in the cluster" in again.output


class Shown:
    """Keeps the rows that a command prints."""

    def __init__(self) -> None:
        self.closed = False
        self.rows: list[list[str]] = []

    def stream(self, table, records) -> None:
        assert len(table.rows) == len(records)
        self.rows += table.rows


@seeded(1)
async def test_follow_prints_each_row_once_and_again_if_it_comes_back():
    url, shown = "memory:followed", Shown()
    async with ActorSystem(system_id="a", cluster=url) as a, anyio.create_task_group() as group:
        group.start_soon(_follow, "name", shown, url)
        await a.cluster.claim("boss", counter := a.spawn(Counter))
        await until(lambda: len(shown.rows) == 1)
        await a.cluster.claim("other", counter)
        await until(lambda: len(shown.rows) == 2)
        await a.cluster.release("boss")
        await anyio.sleep(2)
        await a.cluster.claim("boss", counter)
        await until(lambda: len(shown.rows) == 3)
        assert [row[0] for row in shown.rows] == ["boss", "other", "boss"]
        assert {row[1] for row in shown.rows} == {str(a.cluster.address(counter))}
        shown.closed = True


@seeded(1)
async def test_a_node_whose_lease_has_expired_is_shown_no_more(monkeypatch):
    monkeypatch.setattr(_registry_view, "time", SimpleNamespace(monotonic=anyio.current_time))
    url = "memory:expired"
    async with ActorSystem(system_id="a", cluster=url):
        crashed = ActorSystem(system_id="b", cluster=url)
        await crashed.start()
        await crashed.cluster.claim("boss", crashed.spawn(Counter))
        async with _registry_view.open_view(url) as view:
            for transport in list(HUBS["expired"].transports.values()):
                if transport.node.node == "b":
                    transport.vanish()
            await view.refresh()
            assert [row[0] for row in view.nodes()] == ["a", "b"]
            await anyio.sleep(4)
            await view.refresh()
            assert [row[0] for row in view.nodes()] == ["a"]
            assert view.names() == []
        await crashed.aclose()
