"""Section 8: an encrypted connection with certificates from the URL, and one warning without."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
from _processes import free_port
from _world import COUNTER, Counter, until

from papyra import ActorSystem
from papyra.exceptions import BackendURLError
from papyra_contrib.cluster import Cluster, ClusterUnavailable
from papyra_contrib.cluster.nats import _transport
from papyra_contrib.cluster.nats._url import NatsURL

numbers = itertools.count(1)


# What RFC 5280 asks for, which Python 3.13 checks by default (VERIFY_X509_STRICT).
EXTENSIONS = """
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
subjectAltName = IP:127.0.0.1, DNS:localhost
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
"""


def openssl(folder: Path, words: str) -> None:
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True, cwd=folder)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Make an authority, and certificates for a server on loopback and for a client."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here, which makes the certificates")
    folder: Path = tmp_path_factory.mktemp("tls")
    (folder / "made.ext").write_text(EXTENSIONS)

    def make(name: str, section: str, signed_by: str) -> None:
        key = f"-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {name}.key"
        openssl(folder, f"req {key} -subj /CN={name} -out {name}.csr")
        made = f"-days 2 -extfile made.ext -extensions {section} -out {name}.pem"
        openssl(folder, f"x509 -req -in {name}.csr {signed_by} {made}")

    for authority in ("ca", "stranger"):
        make(authority, "authority", f"-signkey {authority}.key")
    for name in ("server", "client"):
        make(name, name, "-CA ca.pem -CAkey ca.key -CAcreateserial")
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


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("nats:shop", "not the URL of a NATS cluster"),
        ("nats://host/", "the name of a cluster must have 1 to 64 letters"),
        (f"nats://host/{'x' * 65}", "the name of a cluster must have 1 to 64 letters"),
        ("nats://host:0/shop", "'host:0' is not a host and port"),
        ("nats://host:x/shop", "'host:x' is not a host and port"),
        ("nats://:4222/shop", "':4222' is not a host and port"),
        ("nats://host/shop?lease=1", "whole seconds from 2 to 120"),
        ("nats://host/shop?lease=2.5", "whole seconds from 2 to 120"),
        ("nats://host/shop?replicas=2", "1, 3 or 5"),
    ],
)
def test_c15_a_malformed_url_says_what_is_malformed(url, text):
    with pytest.raises(BackendURLError, match=text):
        Cluster(url)


def test_c15_two_leases_that_differ_are_refused():
    with pytest.raises(ValueError, match="lease is 5 s here, and 4 s in the URL; give one"):
        Cluster("nats://host/shop?lease=4", lease=5)
    read = NatsURL.parse("nats://host/shop?lease=4&replicas=3")
    assert (read.lease, read.replicas) == (4, 3)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("nats://host/shop", {"servers": ["nats://host:4222"]}),
        ("nats://a:1,[::1]/shop", {"servers": ["nats://a:1", "nats://[::1]:4222"]}),
        ("nats://se%40cret@host/shop", {"servers": ["nats://host:4222"], "token": "se@cret"}),
        ("nats://me:x@host/shop", {"servers": ["nats://host:4222"], "user": "me", "password": "x"}),
        ("nats://host/shop?creds=/c", {"servers": ["nats://host:4222"], "user_credentials": "/c"}),
    ],
)
def test_c15_the_login_of_the_url_is_that_of_the_connection(url, options):
    assert NatsURL.parse(url).options() == options


async def test_c15_a_file_that_is_not_there_is_named():
    url = f"nats://127.0.0.1:{free_port()}/shop?tls_ca=/not/there.pem"
    system = ActorSystem(system_id="a", cluster=Cluster(url))
    text = "can't connect to the NATS server: FileNotFoundError"
    with pytest.raises(ClusterUnavailable, match=text) as raised:
        await system.start()
    assert isinstance(raised.value.__cause__, FileNotFoundError)
    await system.aclose()
