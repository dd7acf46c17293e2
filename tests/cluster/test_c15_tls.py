"""Section 8: an encrypted connection with certificates from the URL, and one warning without."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from _processes import free_port
from _world import COUNTER, Counter, until

from papyra import ActorSystem
from papyra_contrib.cluster import Cluster, ClusterUnavailable
from papyra_contrib.cluster.nats import _transport
from papyra_contrib.cluster.nats._url import NatsURL

numbers = itertools.count(1)


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Make an authority, and certificates for a server on loopback and for a client."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here, which makes the certificates")
    folder: Path = tmp_path_factory.mktemp("tls")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for authority in ("ca", "stranger"):
        files = ["-keyout", str(folder / f"{authority}.key"), "-out", str(folder / f"{authority}.pem")]
        openssl("req", "-x509", *curve, "-days", "2", "-subj", f"/CN={authority}", *files)
    for name in ("server", "client"):
        request, made = str(folder / f"{name}.csr"), str(folder / f"{name}.pem")
        openssl(
            "req", *curve, "-subj", f"/CN={name}", "-keyout", str(folder / f"{name}.key"), "-out", request
        )
        names = folder / f"{name}.ext"
        names.write_text("subjectAltName=IP:127.0.0.1\n")
        signed_by = ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial"]
        openssl(
            "x509", "-req", "-in", request, *signed_by, "-days", "2", "-extfile", str(names), "-out", made
        )
    return folder


@pytest.fixture
def server(world, certificates):
    files = {name: certificates / name for name in ("server.pem", "server.key", "ca.pem")}
    made = world.server(
        f'tls {{ cert_file: "{files["server.pem"]}", key_file: "{files["server.key"]}", '
        f'ca_file: "{files["ca.pem"]}", verify: true }}\n'
    )
    made.start()
    return made


@pytest.mark.skipif(
    sys.version_info >= (3, 13),
    reason="open: the certificates of the test are not strict enough for Python 3.13",
)
async def test_c15_nodes_meet_over_tls_with_certificates_of_both_sides(server, certificates):
    url = server.url(
        "tls",
        options=f"?tls_ca={certificates}/ca.pem&tls_cert={certificates}/client.pem&tls_key={certificates}/client.key",
    )
    async with ActorSystem(system_id="a", cluster=url) as a, ActorSystem(system_id="b", cluster=url) as b:
        await a.cluster.register(COUNTER, a.spawn(Counter))
        await until(lambda: len(b.cluster.find(COUNTER)) == 1)
        assert await b.cluster.find(COUNTER)[0].ask("get", timeout=5) == 0


@pytest.mark.parametrize("options", ["", "?tls_ca={}/stranger.pem", "?tls_ca={}/ca.pem"])
async def test_c15_no_tls_a_foreign_authority_and_no_certificate_are_refused(server, certificates, options):
    url = server.url("tls", options=options.format(certificates))
    system = ActorSystem(system_id="a", cluster=Cluster(url, join_timeout=0.7))
    with pytest.raises(ClusterUnavailable):
        await system.start()
    await system.aclose()


async def test_c15_one_warning_without_tls_to_a_host_that_is_not_loopback(caplog, monkeypatch):
    monkeypatch.setattr(_transport, "_exposed_hosts", set())

    async def start(url: str) -> list[str]:
        caplog.clear()
        system = ActorSystem(system_id="a", cluster=Cluster(url, join_timeout=0.2))
        with pytest.raises((ClusterUnavailable, OSError)):
            await system.start()
        await system.aclose()
        return [one.getMessage() for one in caplog.records if "not encrypted" in one.getMessage()]

    host = f"0.0.0.0:{free_port()}"  # not a loopback address, and nobody answers there
    (text,) = await start(f"nats://me:hunter2@{host}/shop")
    assert host in text
    assert "tls_ca" in text
    assert "hunter2" not in text
    assert await start(f"nats://{host}/shop") == []  # once for a host
    assert await start(f"nats://127.0.0.1:{free_port()}/shop") == []
    assert await start(f"nats://localhost:{free_port()}/shop") == []


@pytest.mark.parametrize(
    ("host", "exposed"),
    [
        ("127.0.0.1", False),
        ("127.8.9.1:4222", False),
        ("localhost:4222", False),
        ("[::1]:4222", False),
        ("127.0.0.1,10.0.0.1", True),
        ("localhost.example.org", True),
        ("127.example.org", True),
    ],
)
def test_c15_a_name_that_begins_like_loopback_is_not(host, exposed):
    assert NatsURL.parse(f"nats://{host}/shop").is_exposed is exposed
    assert not NatsURL.parse(f"nats://{host}/shop?tls_ca=/ca.pem").is_exposed
