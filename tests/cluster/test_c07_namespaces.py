"""Promise 7 with a real network: a node in a network namespace whose link goes down."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

OUTSIDE, INSIDE = "10.211.7.1", "10.211.7.2"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def namespace():
    """Return a namespace with one link to this machine, whose outer end is ``NAME-o``."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the command ip")
    name = f"pp{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("link", "add", f"{name}-o", "type", "veth", "peer", "name", f"{name}-i")
    except subprocess.CalledProcessError as error:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
    try:
        ip("link", "set", f"{name}-i", "netns", name)
        ip("addr", "add", f"{OUTSIDE}/30", "dev", f"{name}-o")
        ip("link", "set", f"{name}-o", "up")
        ip("-n", name, "addr", "add", f"{INSIDE}/30", "dev", f"{name}-i")
        ip("-n", name, "link", "set", f"{name}-i", "up")
        yield name
    finally:
        subprocess.run(["ip", "link", "del", f"{name}-o"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.sweep
def test_c07_a_node_whose_link_goes_down_lets_go_first_and_comes_back(world, namespace):
    server = world.server(host="0.0.0.0")
    server.start()
    url = f"nats://{OUTSIDE}:{server.port}/shop"
    a = world.node("a", server.url("shop"))
    b = world.node("b", url, "trio", within=("ip", "netns", "exec", namespace))
    for node in (a, b):
        node.wait_for("ready")
        node.until("members", lambda members: len(members) == 2)
    address = b.do("counter")
    a.until("find", lambda found: address in found)
    a.do("watch", address=address)
    b.do("singleton", name="sole")
    first = b.wait_for("sole")
    a.do("singleton", name="sole")
    for _ in range(2):
        before = dict(member.split("@") for member in b.do("members"))["b"]
        b.wait_for("NodeUp", node="b", incarnation=before)
        ip("link", "set", f"{namespace}-o", "down")
        let_go = b.wait_for("NodeDown", node="b", incarnation=before, reason="lost")
        down = a.wait_for("NodeDown", node="b", incarnation=before)
        assert let_go["at"] < down["at"]
        assert a.wait_for("terminated", address=address)["reason"] == "node_down"
        second = a.wait_for("sole")  # from the first time on
        assert b.wait_for("sole stopped")["at"] < second["at"]
        assert second["fence"] > first["fence"]
        ip("link", "set", f"{namespace}-o", "up")
        b.until("members", lambda members, before=before: len(members) == 2 and f"b@{before}" not in members)
        (again,) = a.until("find", lambda found, before=before: len(found) == 1 and before not in found[0])
        assert a.until("ask", lambda reply: reply[0] == "reply", address=again)
