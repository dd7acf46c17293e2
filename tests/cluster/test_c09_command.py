"""``papyra cluster``: it joins nothing, and exits with 3 if no server answers."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from papyra_contrib.cluster._command import cluster


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
    assert node.do("members") == [address.partition(":")[0]]  # it has joined nothing


@pytest.mark.parametrize("command", ["nodes", "init"])
def test_no_server(command, monkeypatch):
    from _processes import free_port

    monkeypatch.setattr("papyra_contrib.cluster._registry_view.PATIENCE_SECONDS", 1.0)

    done = run(command, "--cluster", f"nats://127.0.0.1:{free_port()}/shop")
    assert done.exit_code == 3


def test_no_url_and_a_malformed_one(monkeypatch):
    monkeypatch.delenv("PAPYRA_CLUSTER", raising=False)
    assert run("nodes").exit_code == 2
    assert run("nodes", "--cluster", "nats://x").exit_code == 2


def test_init_says_what_differs(nats_server):
    assert run("init", "--cluster", nats_server.url("four", options="?lease=4")).exit_code == 0
    again = run("init", "--cluster", nats_server.url("four", options="?lease=5"))
    assert again.exit_code != 0
    assert "5 s here, and 4 s in the cluster" in f"{again.output}{again.exception}"
