"""Promise 15: the permissions that the documentation names suffice, and each forgery is refused."""

from __future__ import annotations

import asyncio
import json

import nats
import nats.errors
import pytest

ADMIN = ("admin", "admin-secret")


def permissions(node: str, cluster: str = "shop") -> str:
    bucket = f"papyra_{cluster}"
    publish = [
        f"papyra.{cluster}.n.*.*.{node}.*",
        f"papyra.{cluster}.all.{node}.*",
        f"$KV.{bucket}.n.{node}",
        f"$KV.{bucket}.s.*.{node}.*",
        f"$KV.{bucket}.a.>",
        "$JS.API.INFO",
        f"$JS.API.STREAM.INFO.KV_{bucket}",
        f"$JS.API.STREAM.MSG.GET.KV_{bucket}",
        f"$JS.API.DIRECT.GET.KV_{bucket}",
    ]
    subscribe = [
        f"papyra.{cluster}.n.{node}.>",
        f"papyra.{cluster}.x.{node}.>",
        f"papyra.{cluster}.all.>",
        f"papyra.{cluster}.reg.>",
        f"_INBOX_{node}.>",
    ]
    return f"{{ publish: {json.dumps(publish)}, subscribe: {json.dumps(subscribe)} }}"


def config() -> str:
    nodes = ", ".join(
        f"{{ user: {node}, password: {node}-secret, permissions: {permissions(node)} }}" for node in "ab"
    )
    return f"accounts {{ SHOP {{ jetstream: enabled, users: [ {{ user: {ADMIN[0]}, password: {ADMIN[1]} }}, {nodes} ] }} }}\n"


@pytest.fixture
def server(world):
    made = world.server(config())
    made.start()
    return made


def url(server, user: str) -> str:
    return f"nats://{user}:{user}-secret@127.0.0.1:{server.port}/shop"


async def forge(server, attempts) -> list[str]:
    """Try each as node b; return what the server refused."""
    refused: list[str] = []

    async def failed(error: Exception) -> None:
        refused.append(str(error))

    client = await nats.connect(
        f"nats://127.0.0.1:{server.port}",
        user="b",
        password="b-secret",
        inbox_prefix="_INBOX_b",
        error_cb=failed,
    )
    outcomes = []
    for subject, payload, headers in attempts:
        before = len(refused)
        try:
            reply = await client.request(subject, payload, timeout=0.3, headers=headers)
            outcomes.append("error" if "error" in json.loads(reply.data) else "done")
        except (nats.errors.NoRespondersError, TimeoutError, nats.errors.Error):
            await client.flush()
            outcomes.append("refused" if len(refused) > before else "no answer")
    await client.close()
    return outcomes


def test_c15_the_permissions_suffice_and_forgeries_are_refused(world, server):
    from click.testing import CliRunner

    from papyra_contrib.cluster._command import cluster

    made = CliRunner().invoke(cluster, ["init", "--cluster", url(server, "admin")])
    assert made.exit_code == 0, made.output
    a, b = world.node("a", url(server, "a")), world.node("b", url(server, "b"))
    for node in (a, b):
        node.wait_for("ready")
        node.until("members", lambda members: len(members) == 2)
    address = a.do("counter")
    b.until("find", lambda found: address in found)
    assert b.do("ask", address=address)[0] == "reply"
    assert b.do("claim", name="n")[0] == "fence"
    a.do("singleton", name="sole")
    a.wait_for("sole")
    b.do("watch", address=address)
    a.do("stop", address=address)
    assert b.wait_for("terminated")["reason"] == "stopped"
    me = a.do("members")[0].partition("@")[2]
    attempts = [
        (f"papyra.shop.n.a.{me}.a.{me}", b"1 T 1 0 1 - - 0\n", None),  # a message in another's name
        (f"papyra.shop.all.a.{me}", b"", None),
        ("$KV.papyra_shop.n.a", b"{}", None),  # another's lease
        ("$KV.papyra_shop.s.counter.a.1", b"{}", None),  # another's service
        ("$JS.API.STREAM.DELETE.KV_papyra_shop", b"", None),
        ("$JS.API.STREAM.PURGE.KV_papyra_shop", b"", None),
        ("$JS.API.STREAM.UPDATE.KV_papyra_shop", b"{}", None),
        ("$KV.papyra_shop.a.wipe", b"", {"Nats-Rollup": "all"}),  # would wipe the registry
    ]
    outcomes = asyncio.run(forge(server, attempts))
    assert outcomes[:-1] == ["refused"] * 7
    assert outcomes[-1] == "error"
    assert len(b.do("members")) == 2


def test_c15_a_node_may_not_read_what_is_for_another(server):
    async def run() -> list[str]:
        refused: list[str] = []

        async def failed(error: Exception) -> None:
            refused.append(str(error))

        client = await nats.connect(
            f"nats://127.0.0.1:{server.port}", user="b", password="b-secret", error_cb=failed
        )
        for subject in ("papyra.shop.n.a.>", "papyra.shop.x.a.>", "_INBOX_a.>", "$KV.papyra_shop.>"):
            await client.subscribe(subject)
            await client.flush()
        for _ in range(3_000):  # the last refusal may come after the answer to the flush
            if len(refused) == 4:
                break
            await asyncio.sleep(0.01)
        await client.close()
        return refused

    assert len(asyncio.run(run())) == 4


def test_c15_a_password_shows_nowhere(server, caplog):
    from papyra.exceptions import BackendURLError
    from papyra_contrib.cluster import Cluster
    from papyra_contrib.cluster.nats._url import NatsURL

    read = NatsURL.parse("nats://me:hunter2@10.0.0.1:4222/shop?tls_ca=/x")
    assert "hunter2" not in repr(read)
    for bad in (
        "nats://me:hunter2@host/a/b",
        "nats://me:hunter2@host/shop?x=1",
        "nats:me:hunter2@host:x/shop",
    ):
        with pytest.raises(BackendURLError) as error:
            Cluster(bad)
        assert "hunter2" not in str(error.value)
    assert "hunter2" not in caplog.text
